"""Reading the catalog's document versions and settings, each row checked against its digest.

Readers and the writer get rows only from here, so that a damaged row is an error and never part of
an answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    TextClause,
    cast,
    func,
    select,
)

from layerdex.records import Rows, Scalar
from layerdex.storage.catalog.metadata import decode_value
from layerdex.storage.catalog.row_digests import (
    damage_error,
    document_digest,
    metadata_digest,
    setting_damage,
    setting_digest,
)
from layerdex.storage.catalog.schema import DEAD, DOCUMENT, LIVE, METADATUM, SETTING
from layerdex.storage.catalog.validation import is_metadata, is_version

MAX_PARAMETERS = 900
"""Values bound in one statement: SQLite's limit is 32,766, and 999 in older builds."""

T = TypeVar("T")

VERSION_COLUMNS = (
    DOCUMENT.c.row,
    DOCUMENT.c.id,
    DOCUMENT.c.ordinal,
    DOCUMENT.c.label,
    DOCUMENT.c.content_hash,
    DOCUMENT.c.n_characters,
    DOCUMENT.c.n_tokens,
    DOCUMENT.c.truncated,
    DOCUMENT.c.n_unknown,
    DOCUMENT.c.unreadable,
    DOCUMENT.c.metadata_digest,
    DOCUMENT.c.live,
    DOCUMENT.c.digest,
)
"""All columns of a document version, in the order that `check_version` expects."""

VERSION_FIELDS = tuple(column.name for column in VERSION_COLUMNS[:-2])
"""The columns that a digest covers; it is inverted for a dead version."""

_METADATA_DIGEST = VERSION_FIELDS.index("metadata_digest")


@dataclass(frozen=True, slots=True)
class Version:
    """A document version as the catalog has it, without its text."""

    row: int
    id: str
    ordinal: int
    label: str | None
    content_hash: bytes
    n_characters: int
    n_tokens: int
    truncated: bool
    n_unknown: int | None
    unreadable: bool
    metadata_digest: int
    metadata: dict[str, Scalar]

    def digest(self) -> int:
        """Return its digest as a live version."""
        return document_digest(*(getattr(self, name) for name in VERSION_FIELDS))


def check_live(columns: Sequence[Any]) -> None:
    """Raise `DamagedIndexError` unless `VERSION_COLUMNS` are those of an intact, live version."""
    check_version(columns)
    if not columns[-2]:
        raise damage_error(f"row {columns[0]}")


def check_dead(columns: Sequence[Any]) -> None:
    """Raise `DamagedIndexError` unless `VERSION_COLUMNS` are those of an intact, dead version."""
    check_version(columns)
    if columns[-2]:
        raise damage_error(f"row {columns[0]}")


def check_version(columns: Sequence[Any]) -> None:
    """Raise `DamagedIndexError` unless `VERSION_COLUMNS` of a row agree with its digest."""
    *fields, live, recorded = columns
    if not is_version(fields):
        raise damage_error(f"row {fields[0]}")
    computed = document_digest(*fields)
    if (computed if live else ~computed) != recorded:
        raise damage_error(f"row {fields[0]}")


def fetch_versions(
    connection: Connection,
    query: Select[*tuple[Any, ...]],
    check: Callable[[Sequence[Any]], None],
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the `VERSION_COLUMNS` that a query selects, each row checked."""
    try:
        versions = connection.execute(query).all()
    except (TypeError, ValueError) as error:  # a value of a boolean column is not a boolean
        raise damage_error("a row") from error
    for columns in versions:
        check(columns)
    return versions


def read_live(connection: Connection, *where: ColumnElement[bool]) -> list[Version]:
    """Return the live versions that match, with their metadata, by ascending row."""
    return _read(connection, check_live, LIVE, *where)


def read_versions(connection: Connection, *where: ColumnElement[bool]) -> list[Version]:
    """Return the versions that match, dead ones included, by ascending row."""
    return _read(connection, check_version, *where)


def _read(
    connection: Connection,
    check: Callable[[Sequence[Any]], None],
    *where: ColumnElement[bool] | TextClause,
) -> list[Version]:
    query = select(*VERSION_COLUMNS).where(*where).order_by(DOCUMENT.c.row)
    versions = fetch_versions(connection, query, check)
    metadata = read_metadata(connection, versions)
    # The columns are in the order of the fields.
    return [Version(*[*columns[:-2], metadata[columns[0]]]) for columns in versions]


def read_dead(connection: Connection, *where: ColumnElement[bool]) -> Rows:
    """Return the rows of the dead versions that match, ascending, each checked."""
    query = select(*VERSION_COLUMNS).where(DEAD, *where).order_by(DOCUMENT.c.row)
    return row_array(columns[0] for columns in fetch_versions(connection, query, check_dead))


def read_setting(connection: Connection, key: str) -> Any:
    """Return the value of a setting, or None if there is none."""
    return read_setting_values(connection, [key])[0]


def read_setting_values(connection: Connection, keys: Sequence[str]) -> list[Any]:
    """Return the values of settings by one statement, with None for those that there are not."""
    settings = _read_settings(connection, keys, SETTING.c.key.in_(keys))
    # A setting looks absent if its key, or its entry in SQLite's index, is damaged.
    if absent := set(keys) - settings.keys():
        hidden = absent & _read_settings(connection, keys).keys()
        if hidden:
            raise setting_damage(min(hidden))
    return [settings.get(key) for key in keys]


def _read_settings(
    connection: Connection, keys: Sequence[str], *where: ColumnElement[bool]
) -> dict[str, Any]:
    query = select(SETTING.c.key, SETTING.c.value, SETTING.c.digest).where(*where)
    try:
        settings = connection.execute(query).all()
    except (ValueError, RecursionError, TypeError) as error:  # not JSON
        raise setting_damage(_find_undecodable(connection) or keys[0]) from error
    for name, value, digest in settings:
        if setting_digest(name, value) != digest:
            raise setting_damage(name)
    return {name: value for name, value, _ in settings}


def _find_undecodable(connection: Connection) -> str | None:
    """Return the key of a setting that is not JSON, if there is one."""
    for key, value in connection.execute(select(SETTING.c.key, cast(SETTING.c.value, Text))):
        try:
            json.loads(value)
        except (ValueError, RecursionError, TypeError):
            return str(key)
    return None


def find_live(connection: Connection, ids: Sequence[str]) -> dict[str, Version]:
    """Return the live documents among ``ids``, by id."""
    live: dict[str, Version] = {}
    for chunk in chunks(ids, MAX_PARAMETERS):
        versions = read_live(connection, DOCUMENT.c.id.in_(chunk))
        live.update((version.id, version) for version in versions)
    return live


def live_ids(connection: Connection) -> Generator[tuple[str, bytes]]:
    """Yield id and content hash of the live documents, by row; they are not checked."""
    query = select(DOCUMENT.c.id, DOCUMENT.c.content_hash).where(LIVE).order_by(DOCUMENT.c.row)
    options = {"yield_per": MAX_PARAMETERS}
    with connection.execute(query, execution_options=options) as result:
        yield from map(tuple, result)


def find_vanished(
    connection: Connection, unknown: Callable[[Sequence[str]], Sequence[str]]
) -> Iterator[list[Version]]:
    """Yield the live documents whose ids are unknown, in batches and by ascending row.

    ``unknown`` is called with at most 900 ids and returns the unknown ones.
    """
    last = -1
    while True:
        columns = (DOCUMENT.c.row, DOCUMENT.c.id)
        query = select(*columns).where(LIVE, DOCUMENT.c.row > last)
        page = connection.execute(query.order_by(DOCUMENT.c.row).limit(MAX_PARAMETERS)).all()
        if not page:
            return
        last = page[-1].row
        vanished = set(unknown([id_ for _, id_ in page]))
        if rows := [row for row, id_ in page if id_ in vanished]:
            yield read_live(connection, DOCUMENT.c.row.in_(rows))


def count_before(connection: Connection, ordinal: int) -> int:
    """Return the number of live documents with a lower ordinal."""
    query = select(func.count()).select_from(DOCUMENT).where(LIVE, DOCUMENT.c.ordinal < ordinal)
    return connection.scalar(query) or 0


def read_metadata(
    connection: Connection, versions: Iterable[Sequence[Any]]
) -> dict[int, dict[str, Scalar]]:
    """Return the metadata by row, fields in alphabetical order.

    ``versions`` are rows that begin with `VERSION_COLUMNS`, whose digests of metadata are checked.
    """
    digests = {columns[0]: columns[_METADATA_DIGEST] for columns in versions}
    fields: dict[int, list[tuple[str, str, str, float | None]]] = {row: [] for row in digests}
    for chunk in chunks(list(digests), MAX_PARAMETERS):
        query = (
            select(
                METADATUM.c.row,
                METADATUM.c.name,
                METADATUM.c.kind,
                METADATUM.c.text,
                METADATUM.c.number,
            )
            .where(METADATUM.c.row.in_(chunk))
            .order_by(METADATUM.c.row, METADATUM.c.name)
        )
        for row, name, value_type, text, number in connection.execute(query).all():
            if row not in fields:  # a damaged b-tree returns rows that were not asked for
                raise damage_error(f"row {row}")
            fields[row].append((name, value_type, text, number))
    for row, recorded in digests.items():
        if not is_metadata(fields[row]) or metadata_digest(fields[row]) != recorded:
            raise damage_error(f"row {row}")
    return {row: _decode(row, row_fields) for row, row_fields in fields.items()}


def _decode(row: int, fields: Iterable[tuple[str, str, str, float | None]]) -> dict[str, Scalar]:
    try:
        return {name: decode_value(value_type, text) for name, value_type, text, _ in fields}
    except ValueError as error:  # an unknown type, or a text that is not of its type
        raise damage_error(f"row {row}") from error


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield ``items`` in slices of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def row_array(rows: Iterable[int]) -> Rows:
    """Return integers as an int64 array."""
    return np.fromiter(rows, dtype=np.int64)
