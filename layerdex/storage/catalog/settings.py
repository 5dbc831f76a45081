"""Settings of an index, the state of a commit, and the cheap checks of both."""

from __future__ import annotations

import operator
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from layerdex.choices import LongText, Pooling, StoredPrecision
from layerdex.errors import DamagedIndexError, OptionError, StorageError
from layerdex.options import TextFile
from layerdex.records import EncoderSettings, Quantization, Rows
from layerdex.storage.catalog.changes import COMMIT_MARK, COMMITS, IDENTITY, NEXT_ORDINAL, NEXT_ROW
from layerdex.storage.catalog.row_digests import setting_damage
from layerdex.storage.catalog.rows import read_dead, read_setting, read_setting_values
from layerdex.storage.catalog.schema import DOCUMENT
from layerdex.storage.catalog.segments import read_segments
from layerdex.storage.catalog.source_fields import DATE_FORMATS, SOURCE_FIELDS
from layerdex.storage.catalog.validation import are_settings, is_best_layer
from layerdex.storage.vectors.codecs import read_precision
from layerdex.storage.vectors.layer_vectors import Segment, n_positions

BEST_LAYER = "best_layer"
QUERY_TEMPLATE = "query_template"
SYNC_START = "sync_start"

CommitMark = tuple[int, str | None]
"""Number and random token of a commit; an index without any commit has no token."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit's mark, its segments, and the rows that are dead in it, ascending."""

    mark: CommitMark
    segments: list[Segment]
    dead: Rows


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that never change; ``identity`` distinguishes the index from any other.

    ``query_template`` is None if queries get the documents' template. It does not change stored
    vectors and is not part of the fingerprint.
    """

    identity: str
    encoder: EncoderSettings
    layers: tuple[int, ...]
    precision: StoredPrecision
    query_template: str | None


def initial_settings(
    encoder: EncoderSettings,
    layers: tuple[int, ...],
    *,
    precision: StoredPrecision,
    query_template: str | None,
) -> dict[str, Any]:
    """Return the settings of a new index.

    Those without a value are stored as null: finding that a setting is absent takes a check of all
    settings, and a damaged one must not prevent opening an index to save its texts.
    """
    return {
        IDENTITY: uuid.uuid4().hex,
        "encoder": asdict(encoder),
        "layers": layers,
        "precision": precision.value,
        QUERY_TEMPLATE: query_template,
        COMMIT_MARK: None,
        BEST_LAYER: None,
        SOURCE_FIELDS: None,
        DATE_FORMATS: None,
        SYNC_START: None,
        NEXT_ROW: 1,
        NEXT_ORDINAL: 1,
        COMMITS: 0,
    }


def read_settings(connection: Connection, path: Path) -> Settings:
    """Return the settings, and check the counters too."""
    try:
        stored: dict[str, Any] = read_setting(connection, "encoder")
        # Indexes from before long texts could be chunked do not have this setting.
        long = LongText(stored.get("long", LongText.TRUNCATE))
        quantized, texts = stored.get("quantization"), stored.get("calibration")
        typed = {
            "pooling": Pooling(stored["pooling"]),
            "long": long,
            "calibration": None if texts is None else TextFile(**texts),
            "quantization": None if quantized is None else Quantization.from_setting(quantized),
        }
        encoder = EncoderSettings(**{**stored, **typed})
        layers = tuple(map(operator.index, read_setting(connection, "layers")))
        counters = [read_setting(connection, key) for key in (COMMITS, NEXT_ROW, NEXT_ORDINAL)]
        if not are_settings(encoder, layers, counters):
            raise ValueError
        identity = str(read_setting(connection, IDENTITY))
        query_template = read_setting(connection, QUERY_TEMPLATE)
        if not isinstance(query_template, str | None):
            raise TypeError
    except (AttributeError, KeyError, OptionError, TypeError, ValueError) as error:
        raise DamagedIndexError(
            f"the catalog of {path} has damaged settings: restore it from a backup"
        ) from error
    precision = read_precision(read_setting(connection, "precision"))
    return Settings(identity, encoder, layers, precision, query_template)


def check_best_layer(best: dict[str, Any] | None, layers: tuple[int, ...]) -> dict[str, Any] | None:
    """Return the setting `BEST_LAYER`: the layer with its figures, or None if none was saved."""
    if best is not None and not is_best_layer(best, layers):
        raise setting_damage(BEST_LAYER)
    return best


def read_mark(connection: Connection, identity: str, path: Path) -> CommitMark:
    """Return the mark of the commit that a transaction sees.

    Raises `StorageError` if another index has replaced the one that was opened.
    """
    found, number, token = read_setting_values(connection, [IDENTITY, COMMITS, COMMIT_MARK])
    if found != identity:
        raise StorageError(
            f"{path} now holds another index than the one that was opened: open it again"
        )
    return number, token


def read_commit(connection: Connection, mark: CommitMark) -> Commit:
    """Read the commit with this mark, which the transaction sees."""
    return Commit(mark, read_segments(connection), read_dead(connection))


def check_counts(connection: Connection, segments: Iterable[Segment], path: Path) -> None:
    """Raise `DamagedIndexError` unless there is a document version for every vector."""
    n_rows = connection.scalar(select(func.count()).select_from(DOCUMENT))
    if n_rows != (n := n_positions(segments)):
        raise DamagedIndexError(
            f"the catalog of {path} has {n_rows} document versions, its segments have "
            f"{n}: restore the catalog from a backup"
        )
