"""What a commit writes into the catalog, within the caller's transaction."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, delete, insert, select, update

from layerdex.records import Scalar
from layerdex.storage.catalog.metadata import encode_value
from layerdex.storage.catalog.row_digests import (
    document_digest,
    metadata_digest,
    segment_digest,
    setting_digest,
)
from layerdex.storage.catalog.rows import (
    MAX_PARAMETERS,
    VERSION_COLUMNS,
    Version,
    chunks,
    read_setting,
)
from layerdex.storage.catalog.schema import (
    DOCUMENT,
    DOCUMENT_TEXT,
    METADATUM,
    SEGMENT,
    SEGMENT_FILE,
    SETTING,
)
from layerdex.storage.vectors.layer_vectors import Segment
from layerdex.storage.vectors.segment_file import SegmentFile

NEXT_ROW = "next_row"
NEXT_ORDINAL = "next_ordinal"
COMMITS = "commits"
COMMIT_MARK = "commit_mark"
IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A document version to add; ``replaces`` is the live one that it updates."""

    id: str
    text: str
    label: str | None
    metadata: Mapping[str, Scalar]
    content_hash: bytes
    n_tokens: int
    truncated: bool
    n_unknown: int | None
    unreadable: bool
    replaces: Version | None


@dataclass(frozen=True, slots=True)
class FieldUpdate:
    """New label and metadata for a live document whose text stays."""

    before: Version
    label: str | None
    metadata: Mapping[str, Scalar]


def put_setting(connection: Connection, key: str, value: Any) -> None:
    """Set a setting to a JSON value."""
    connection.execute(delete(SETTING).where(SETTING.c.key == key))
    # Digested as it will be read: JSON turns a tuple into a list.
    value = json.loads(json.dumps(value))
    values = {"key": key, "value": value, "digest": setting_digest(key, value)}
    connection.execute(insert(SETTING).values(**values))


def advance_counter(connection: Connection, counter: str, n: int) -> int:
    """Advance a counter by n, and return its value before."""
    value: int = read_setting(connection, counter)
    put_setting(connection, counter, value + n)
    return value


def mark_commit(connection: Connection) -> None:
    """Count a commit, and draw the token that distinguishes it from another of the same number.

    There is another after a backup has replaced the index from which it was made.
    """
    advance_counter(connection, COMMITS, 1)
    put_setting(connection, COMMIT_MARK, secrets.token_hex(8))


def insert_segment(
    connection: Connection, name: str, files: Mapping[int, SegmentFile], rows: Sequence[int]
) -> None:
    """Make a written segment part of the index; ``rows`` are those of its positions, ascending."""
    segment = Segment(0, name, len(rows), int(rows[0]), int(rows[-1]), dict(files))
    statement = insert(SEGMENT).values(
        name=name,
        n_documents=segment.n_documents,
        first_row=segment.first_row,
        last_row=segment.last_row,
        digest=segment_digest(segment),
    )
    connection.execute(statement)
    segment_id = connection.scalar(select(SEGMENT.c.id).where(SEGMENT.c.name == name))
    connection.execute(
        insert(SEGMENT_FILE),
        [
            {"segment_id": segment_id, "layer": layer, **asdict(file)}
            for layer, file in files.items()
        ],
    )


@dataclass(frozen=True, slots=True)
class VersionRows:
    """Document versions as rows of the catalog's tables, from `first_row` and `first_ordinal` on.

    ``replaced`` are the rows of the versions that they replace.
    """

    first_row: int
    first_ordinal: int
    documents: list[tuple[Any, ...]]
    texts: list[tuple[Any, ...]]
    metadata: list[tuple[Any, ...]]
    replaced: list[int]

    @property
    def rows(self) -> range:
        """The rows of the versions."""
        return range(self.first_row, self.first_row + len(self.documents))


def version_rows(
    versions: Sequence[NewVersion], *, first_row: int, first_ordinal: int
) -> VersionRows:
    """Return document versions as rows, which takes longer than to insert them."""
    ordinals = count(first_ordinal)
    documents: list[tuple[Any, ...]] = []
    metadata: list[tuple[Any, ...]] = []
    for row, version in enumerate(versions, first_row):
        before = version.replaces
        fields = _metadata_rows(row, version.metadata)
        columns = (  # as in `VERSION_FIELDS`
            row,
            version.id,
            next(ordinals) if before is None else before.ordinal,
            version.label,
            version.content_hash,
            len(version.text),
            version.n_tokens,
            version.truncated,
            version.n_unknown,
            version.unreadable,
            _digest_of(fields),
        )
        documents.append((*columns, True, document_digest(*columns)))
        metadata += fields
    texts: list[tuple[Any, ...]] = [(row, v.text) for row, v in enumerate(versions, first_row)]
    replaced = [version.replaces.row for version in versions if version.replaces is not None]
    return VersionRows(first_row, first_ordinal, documents, texts, metadata, replaced)


def insert_versions(connection: Connection, versions: VersionRows) -> None:
    """Add document versions, and mark the versions that they replace dead."""
    mark_dead(connection, versions.replaced)
    _insert(connection, DOCUMENT, VERSION_COLUMNS, versions.documents)
    _insert(connection, DOCUMENT_TEXT, DOCUMENT_TEXT.c, versions.texts)
    _insert(connection, METADATUM, METADATUM.c, versions.metadata)


def update_fields(connection: Connection, field_updates: Sequence[FieldUpdate]) -> None:
    """Replace label and metadata of live documents."""
    if not field_updates:
        return
    documents, metadata = [], []
    for change in field_updates:
        fields = _metadata_rows(change.before.row, change.metadata)
        after = replace(change.before, label=change.label, metadata_digest=_digest_of(fields))
        documents.append(
            {
                "at_row": after.row,
                "new_label": after.label,
                "new_metadata_digest": after.metadata_digest,
                "new_digest": after.digest(),
            }
        )
        metadata += fields
    connection.execute(
        update(DOCUMENT)
        .where(DOCUMENT.c.row == bindparam("at_row"))
        .values(
            label=bindparam("new_label"),
            metadata_digest=bindparam("new_metadata_digest"),
            digest=bindparam("new_digest"),
        ),
        documents,
    )
    for chunk in chunks([change.before.row for change in field_updates], MAX_PARAMETERS):
        connection.execute(delete(METADATUM).where(METADATUM.c.row.in_(chunk)))
    _insert(connection, METADATUM, METADATUM.c, metadata)


def mark_dead(connection: Connection, rows: Sequence[int]) -> None:
    """Mark live document versions dead."""
    for chunk in chunks(rows, MAX_PARAMETERS):
        statement = update(DOCUMENT).where(DOCUMENT.c.row.in_(chunk))
        connection.execute(statement.values(live=False, digest=DOCUMENT.c.digest.bitwise_not()))


def _insert(
    connection: Connection,
    table: Table,
    columns: Iterable[Column[Any]],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Insert rows, whose values are in the order of ``columns``.

    SQLAlchemy would make a dictionary of each row and process each value, which takes three times
    as long as SQLite. None of these values needs that.
    """
    if rows:
        names = [column.name for column in columns]
        compiled = insert(table).compile(dialect=connection.dialect, column_keys=names)
        in_order = itemgetter(*map(names.index, compiled.positiontup or names))
        connection.exec_driver_sql(str(compiled), [in_order(row) for row in rows])


def _metadata_rows(row: int, metadata: Mapping[str, Scalar]) -> list[tuple[Any, ...]]:
    """Return a document's metadata as rows of the table `METADATUM`."""
    rows = []
    for name, value in metadata.items():
        value_type, text, number = encode_value(value)
        rows.append((row, name, value_type.value, text, number))
    return rows


def _digest_of(rows: Sequence[tuple[Any, ...]]) -> int:
    return metadata_digest(row[1:] for row in rows)
