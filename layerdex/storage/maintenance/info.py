"""What an index says of itself."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError
from layerdex.records import EncoderSettings
from layerdex.storage.artifacts import TRANSFORM, count_changes, read_artifact_record
from layerdex.storage.catalog.settings import read_best_layer
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store

logger = logging.getLogger(__name__)

Record = dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """Counts, sizes and settings of the newest commit; ``path`` is absolute.

    ``n_dead`` are versions that compaction would drop; ``n_truncated`` are documents of which
    the encoder did not see the end; ``labels`` has documents by label, most frequent first;
    ``query_template`` is None where queries get the documents' own;
    ``best_layer`` is what ``evaluate --save-best`` saved, with its figures, or None;
    ``transform`` says how many documents there were when transforms were fitted (``n``), on how
    many of their texts (``n_fitted``), how many have come or gone since (``n_changed``), and the
    shrinkages by layer, or is None without any. Each is None also where it is damaged, of which
    a warning is logged.
    """

    path: Path
    n_documents: int
    n_dead: int
    n_segments: int
    n_truncated: int
    size_bytes: int
    layers: tuple[int, ...]
    precision: StoredPrecision
    labels: dict[str, int]
    best_layer: dict[str, Any] | None
    encoder: EncoderSettings
    query_template: str | None
    transform: dict[str, Any] | None


def read_info(store: Store) -> IndexInfo:
    """Collect what `IndexInfo` holds."""
    with store.read() as snapshot:
        n_stored = sum(segment.n_documents for segment in snapshot.segments)
        return IndexInfo(
            path=store.path,
            n_documents=snapshot.n_documents,
            n_dead=n_stored - snapshot.n_documents,
            n_segments=len(snapshot.segments),
            n_truncated=len(snapshot.truncated()),
            size_bytes=_size_bytes(store.path),
            layers=store.layers,
            precision=store.precision,
            labels=snapshot.count_labels(),
            best_layer=_unless_damaged(
                "the best layer", lambda: read_best_layer(snapshot.connection, store.layers)
            ),
            encoder=store.settings,
            query_template=store.query_template,
            # Older indexes without one have no such setting: all are read, to know that.
            transform=_unless_damaged(
                "the transform, if there is one,", lambda: _transform(snapshot)
            ),
        )


def _unless_damaged(what: str, read: Callable[[], Record]) -> Record:
    try:
        return read()
    except DamagedIndexError as error:  # whoever saves texts wants to know the rest
        logger.warning("%s is left out: %s", what, error)
        return None


def _transform(snapshot: Snapshot) -> Record:
    record = read_artifact_record(snapshot, TRANSFORM)
    if record is None:
        return None
    shrinkages = dict(zip(map(str, record["layers"]), record["shrinkages"], strict=True))
    return {
        "n": record["n"],
        "n_fitted": record["n_fitted"],
        "n_changed": count_changes(snapshot, record),
        "shrinkages": shrinkages,
    }


def _size_bytes(folder: Path) -> int:
    n_bytes = 0
    # A writer at work makes and removes files and folders meanwhile; walk passes over the latter.
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                n_bytes += Path(parent, name).lstat().st_size
    return n_bytes
