"""Counts, sizes and settings of an index."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError
from layerdex.layers import format_layers, name_layers
from layerdex.records import EncoderSettings
from layerdex.storage.approximates import measure_freshness, read_approximates
from layerdex.storage.artifacts import (
    HEAD,
    TRANSFORM,
    count_changes,
    find_vanished_labels,
    read_artifact_record,
)
from layerdex.storage.catalog.settings import BEST_LAYER, check_best_layer
from layerdex.storage.catalog.source_fields import (
    DATE_FORMATS,
    SOURCE_FIELDS,
    SourceFields,
    read_date_formats,
    read_source_fields,
)
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from layerdex.tabular import TEXT, Table, Tabular
from layerdex.wording import counted

logger = logging.getLogger(__name__)

Record = dict[str, Any] | None
T = TypeVar("T")

_N_LABELS = 5


@dataclass(frozen=True, slots=True, repr=False)
class IndexInfo(Tabular):
    """Counts, sizes and settings of the newest commit; ``path`` is absolute.

    ``n_dead`` counts the versions that compaction would drop, ``n_truncated`` the documents whose
    end the encoder did not see, ``n_unknown`` those with unknown tokens and ``n_unreadable`` those
    with no others. ``labels`` has the number of documents per label, the most frequent
    first. ``query_template`` is None if queries get the documents' template. ``best_layer`` is what
    ``evaluate --save-best`` saved, with its figures, or None. ``transform`` is None without
    transforms, or has the number of documents when they were fitted (``n``), of texts that they
    were fitted on (``n_fitted``), of documents added or removed since (``n_changed``), and the
    shrinkage per layer. ``head`` is None without a head, or has its layer, the ``label_field`` and
    number of labels that it predicts (``n_labels``), the number of documents that it was fitted on
    (``n``), and those of its labels that no document has any more (``vanished_labels``).
    ``approximate`` has what `Index.accelerate` recorded of each layer: the number of documents
    (``n``), the ``target`` of recall@10, for how many queries (``n_queries``) recall and bound were
    ``measured`` at which filters with which parameters; how many documents were added
    (``n_tail``) and removed (``n_dead``) since, and whether it is not used any more (``is_stale``).
    ``source_fields`` are the names of fields in the sources, None before the first run, and
    ``date_formats`` the forms of dates by field. If one of the last six is damaged, it is None,
    ``damaged`` has its name, and a warning is logged.
    """

    path: Path
    n_documents: int
    n_dead: int
    n_segments: int
    n_truncated: int
    n_unknown: int
    n_unreadable: int
    size_bytes: int
    layers: tuple[int, ...]
    precision: StoredPrecision
    labels: dict[str, int]
    best_layer: dict[str, Any] | None
    encoder: EncoderSettings
    query_template: str | None
    transform: dict[str, Any] | None
    head: dict[str, Any] | None
    approximate: list[dict[str, Any]] | None
    source_fields: SourceFields | None
    date_formats: dict[str, str] | None
    damaged: tuple[str, ...] = field(default=(), compare=False)

    def _summary(self) -> str:
        documents = counted(self.n_documents, "document")
        layers = f"{name_layers(self.layers)} of {self.encoder.model}"
        return f"{documents}, {layers}, {self.size_bytes / 1e6:,.1f} MB in {self.path.name!r}"

    def _table(self) -> Table:
        labels = [f"{name} {n:,}" for name, n in islice(self.labels.items(), _N_LABELS)]
        n_more = len(self.labels) - len(labels)
        values = {
            "documents": f"{self.n_documents:,}",
            "layers": format_layers(self.layers),
            "model": self.encoder.model,
            "pooling": self.encoder.pooling.value,
            "stored as": self.precision.value,
            "size": f"{self.size_bytes / 1e6:,.1f} MB in {counted(self.n_segments, 'segment')}",
            "best layer": str(self.best_layer["layer"]) if self.best_layer else "none saved",
            "labels": ", ".join(labels + [f"… and {n_more:,} more"] * bool(n_more)) or "none",
            "truncated texts": f"{self.n_truncated:,}",
            "texts with unknown tokens": f"{self.n_unknown:,}",
        }
        rows = [{"what": what, "value": value} for what, value in values.items()]
        return Table({"what": TEXT, "value": TEXT}, len(rows), rows)


def read_info(store: Store) -> IndexInfo:
    """Read the `IndexInfo` of the newest commit."""
    damaged: list[str] = []
    with store.read() as snapshot:
        readings = snapshot.count_readings()
        best_layer = _unless_damaged(
            "best_layer",
            "the best layer",
            lambda: check_best_layer(snapshot.setting(BEST_LAYER), store.layers),
            damaged,
        )
        # If the setting is absent, all settings are checked, and any damaged one is an error.
        transform = _unless_damaged(
            "transform", "the transform, if there is one,", lambda: _transform(snapshot), damaged
        )
        head = _unless_damaged(
            "head", "the head, if there is one,", lambda: _head(snapshot), damaged
        )
        approximate = _unless_damaged(
            "approximate",
            "the approximate index, if there is one,",
            lambda: _approximate(store, snapshot),
            damaged,
        )
        fields = _unless_damaged(
            SOURCE_FIELDS,
            "the names of fields in the sources",
            lambda: read_source_fields(snapshot.connection),
            damaged,
        )
        date_formats = _unless_damaged(
            DATE_FORMATS,
            "the forms of dates",
            lambda: read_date_formats(snapshot.connection),
            damaged,
        )
        n_stored = sum(segment.n_documents for segment in snapshot.segments)
        return IndexInfo(
            path=store.path,
            n_documents=snapshot.n_documents,
            n_dead=n_stored - snapshot.n_documents,
            n_segments=len(snapshot.segments),
            n_truncated=readings.n_truncated,
            n_unknown=readings.n_unknown,
            n_unreadable=readings.n_unreadable,
            size_bytes=_size_bytes(store.path),
            layers=store.layers,
            precision=store.precision,
            labels=snapshot.count_labels(),
            best_layer=best_layer,
            encoder=store.settings,
            query_template=store.query_template,
            transform=transform,
            head=head,
            approximate=approximate,
            source_fields=fields,
            date_formats=date_formats,
            damaged=tuple(damaged),
        )


def _unless_damaged(
    name: str, what: str, read: Callable[[], T | None], damaged: list[str]
) -> T | None:
    try:
        return read()
    except DamagedIndexError as error:  # the rest helps with saving the texts
        logger.warning("%s is left out: %s", what, error)
        damaged.append(name)
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


def _head(snapshot: Snapshot) -> Record:
    record = read_artifact_record(snapshot, HEAD)
    if record is None:
        return None
    return {
        **{name: record[name] for name in ("layer", "label_field", "n")},
        "n_labels": len(record["labels"]),
        "vanished_labels": list(find_vanished_labels(snapshot, record)),
    }


def _approximate(store: Store, snapshot: Snapshot) -> list[dict[str, Any]] | None:
    described = []
    for record in sorted(read_approximates(snapshot), key=lambda each: int(each["layer"])):
        state = measure_freshness(snapshot, record, fingerprint=store.settings.fingerprint)
        names = ("layer", "n", "target", "n_queries", "size_bytes", "measured")
        described.append(
            {
                **{name: record[name] for name in names},
                **{name: getattr(state, name) for name in ("n_tail", "n_dead", "is_stale")},
            }
        )
    return described or None


def _size_bytes(folder: Path) -> int:
    n_bytes = 0
    # A writer may remove files and folders meanwhile; `os.walk` skips missing folders itself.
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                n_bytes += Path(parent, name).lstat().st_size
    return n_bytes
