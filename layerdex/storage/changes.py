"""What a commit writes into the catalog; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from layerdex.records import Scalar
from layerdex.storage.metadata import encode_value
from layerdex.storage.snapshot import CHUNK, chunks, read_setting
from layerdex.storage.tables import (
    DOCUMENT,
    DOCUMENT_TEXT,
    METADATUM,
    SEGMENT,
    SEGMENT_FILE,
    SETTING,
)
from layerdex.storage.vectors import SegmentFile

NEXT_ROW = "next_row"
NEXT_ORDINAL = "next_ordinal"
COMMITS = "commits"


@dataclass(frozen=True, slots=True)
class Stored:
    """A live document as it stands before a change."""

    row: int
    ordinal: int
    content_hash: bytes
    label: str | None
    metadata: dict[str, Scalar]


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
    replaces: Stored | None


@dataclass(frozen=True, slots=True)
class Relabelling:
    """New label and metadata for a live document whose text stays."""

    row: int
    label: str | None
    metadata: Mapping[str, Scalar]


def stored_columns() -> Select[str, int, int, bytes, str | None]:
    """Return the query of all that `Stored` holds, short of metadata."""
    return select(
        DOCUMENT.c.id,
        DOCUMENT.c.row,
        DOCUMENT.c.ordinal,
        DOCUMENT.c.content_hash,
        DOCUMENT.c.label,
    )


def take(connection: Connection, counter: str, n: int) -> int:
    """Advance a counter by n, and return what it was."""
    value: int = read_setting(connection, counter)
    connection.execute(update(SETTING).where(SETTING.c.key == counter).values(value=value + n))
    return value


def insert_segment(
    connection: Connection, name: str, files: Mapping[int, SegmentFile], rows: Sequence[int]
) -> None:
    """Make a written segment part of the index; ``rows`` ascend by position."""
    statement = insert(SEGMENT).values(
        name=name, n_documents=len(rows), first_row=int(rows[0]), last_row=int(rows[-1])
    )
    connection.execute(statement)
    segment_id = connection.scalar(select(SEGMENT.c.id).where(SEGMENT.c.name == name))
    connection.execute(
        insert(SEGMENT_FILE),
        [
            {"segment_id": segment_id, "layer": layer, "size_bytes": f.size_bytes, "crc32": f.crc32}
            for layer, f in files.items()
        ],
    )


def insert_versions(
    connection: Connection, versions: Sequence[NewVersion], rows: Sequence[int]
) -> None:
    """Add document versions at ``rows``; the ones that they replace die."""
    bury(connection, [v.replaces.row for v in versions if v.replaces is not None])
    n_fresh = sum(version.replaces is None for version in versions)
    ordinals = iter(range(take(connection, NEXT_ORDINAL, n_fresh), 1 << 62))
    connection.execute(
        insert(DOCUMENT),
        [
            {
                "row": row,
                "id": version.id,
                "ordinal": next(ordinals) if version.replaces is None else version.replaces.ordinal,
                "label": version.label,
                "content_hash": version.content_hash,
                "n_characters": len(version.text),
                "n_tokens": version.n_tokens,
                "truncated": version.truncated,
                "live": True,
            }
            for row, version in zip(rows, versions, strict=True)
        ],
    )
    texts = [{"row": row, "text": v.text} for row, v in zip(rows, versions, strict=True)]
    connection.execute(insert(DOCUMENT_TEXT), texts)
    _insert_metadata(connection, zip(rows, (v.metadata for v in versions), strict=True))


def _insert_metadata(
    connection: Connection, rows: Iterable[tuple[int, Mapping[str, Scalar]]]
) -> None:
    values = []
    for row, metadata in rows:
        for name, value in metadata.items():
            kind, text, number = encode_value(value)
            values.append(
                {"row": row, "name": name, "kind": kind.value, "text": text, "number": number}
            )
    if values:
        connection.execute(insert(METADATUM), values)


def relabel(connection: Connection, relabellings: Sequence[Relabelling]) -> None:
    """Replace label and metadata of live documents."""
    if not relabellings:
        return
    connection.execute(
        update(DOCUMENT)
        .where(DOCUMENT.c.row == bindparam("at_row"))
        .values(label=bindparam("new_label")),
        [{"at_row": change.row, "new_label": change.label} for change in relabellings],
    )
    for chunk in chunks([change.row for change in relabellings], CHUNK):
        connection.execute(delete(METADATUM).where(METADATUM.c.row.in_(chunk)))
    _insert_metadata(connection, ((change.row, change.metadata) for change in relabellings))


def bury(connection: Connection, rows: Sequence[int]) -> None:
    """Mark document versions dead."""
    for chunk in chunks(rows, CHUNK):
        statement = update(DOCUMENT).where(DOCUMENT.c.row.in_(chunk))
        connection.execute(statement.values(live=False))
