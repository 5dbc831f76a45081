"""What an open index knows of a commit, and the cheap checks of it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from layerdex.errors import DamagedIndexError, StorageError
from layerdex.records import EncoderSettings, LongText, Pooling, Rows, StoredPrecision
from layerdex.storage.changes import COMMITS, IDENTITY, NEXT_ORDINAL, NEXT_ROW
from layerdex.storage.codecs import read_precision
from layerdex.storage.rows import (
    VERSION_COLUMNS,
    check_version,
    read_segments,
    read_setting,
    row_array,
)
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.tables import DOCUMENT
from layerdex.storage.vectors import Segment

QUERY_TEMPLATE = "query_template"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit's number, its segments, and the rows that are dead in it, ascending."""

    number: int
    segments: list[Segment]
    dead: Rows


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not change in the life of an index; ``identity`` tells it from any other.

    ``query_template`` is None where queries get the documents' template. It decides no stored
    vector, so that no fingerprint has it.
    """

    identity: str
    encoder: EncoderSettings
    layers: tuple[int, ...]
    precision: StoredPrecision
    query_template: str | None


def read_settings(connection: Connection, path: Path) -> Settings:
    """Return the settings; the counters are looked at too."""
    try:
        stored: dict[str, Any] = read_setting(connection, "encoder")
        # Indexes made before long texts could be chunked say nothing of them.
        long = LongText(stored.get("long", LongText.TRUNCATE))
        encoder = EncoderSettings(**{**stored, "pooling": Pooling(stored["pooling"]), "long": long})
        layers = tuple(map(operator.index, read_setting(connection, "layers")))
        for counter in (COMMITS, NEXT_ROW, NEXT_ORDINAL):
            operator.index(read_setting(connection, counter))
        identity = str(read_setting(connection, IDENTITY))
        query_template = read_setting(connection, QUERY_TEMPLATE)
        if not isinstance(query_template, str | None):
            raise TypeError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedIndexError(
            f"the catalog of {path} has damaged settings: restore it from a backup"
        ) from error
    precision = read_precision(read_setting(connection, "precision"))
    return Settings(identity, encoder, layers, precision, query_template)


def check_identity(connection: Connection, identity: str, path: Path) -> None:
    """Raise `StorageError` if another index has taken the place of the one that was opened."""
    if read_setting(connection, IDENTITY) != identity:
        raise StorageError(f"{path} holds another index than when it was opened: open it again")


def read_commit(connection: Connection, commits: int) -> Commit:
    """Read the commit that a transaction sees, whose number is known."""
    return Commit(commits, read_segments(connection), _read_dead(connection))


def _read_dead(connection: Connection) -> Rows:
    query = select(*VERSION_COLUMNS).where(~DOCUMENT.c.live).order_by(DOCUMENT.c.row)
    found = connection.execute(query).all()
    for columns in found:
        check_version(columns)
    return row_array(columns[0] for columns in found)


def check_counts(snapshot: Snapshot, path: Path) -> None:
    """Raise `DamagedIndexError` unless there is a document version for every vector."""
    n_rows = snapshot.connection.scalar(select(func.count()).select_from(DOCUMENT))
    n_positions = sum(segment.n_documents for segment in snapshot.segments)
    if n_rows != n_positions:
        raise DamagedIndexError(
            f"the catalog of {path} has {n_rows} document versions, its segments have "
            f"{n_positions}: restore the catalog from a backup"
        )
