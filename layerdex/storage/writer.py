"""The one writer of an index: everything that changes what is on disk.

The commit order: a segment's files are written under a temporary name, flushed, renamed and the
folder flushed; only then does one transaction add the segment and its documents to the catalog.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, Table, bindparam, delete, insert, select, update

from layerdex.errors import DocumentNotFoundError
from layerdex.records import Scalar, StoredVectors
from layerdex.storage.files import remove_tree, sync_folder, write_file
from layerdex.storage.metadata import encode_value
from layerdex.storage.segment import layer_filename, serialize_layer
from layerdex.storage.snapshot import CHUNK, chunks, read_metadata, read_segments, read_setting
from layerdex.storage.tables import (
    DocumentRow,
    MetadatumRow,
    SegmentFileRow,
    SegmentRow,
    SettingRow,
    TextRow,
)
from layerdex.storage.vectors import Segment, SegmentFile

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


class Writer:
    """Changes to an index, each method one commit; made by `Store.write`."""

    def __init__(self, connection: Connection, folder: Path, *, layers: tuple[int, ...]) -> None:
        self._connection = connection
        self._folder = folder
        self._layers = layers

    def remove_leftovers(self) -> None:
        """Remove what a killed writer wrote and never committed."""
        with self.transaction() as connection:
            committed = set(connection.scalars(select(SegmentRow.name)))
        for entry in self._folder.iterdir():
            if entry.name not in committed:
                remove_tree(entry)

    def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Return the live documents among ``ids``."""
        found: dict[str, Stored] = {}
        with self.transaction() as connection:
            for chunk in chunks(ids, CHUNK):
                query = _stored_columns().where(DocumentRow.live, DocumentRow.id.in_(chunk))
                documents = connection.execute(query).all()
                metadata = read_metadata(connection, [document.row for document in documents])
                for identifier, row, ordinal, content_hash, label in documents:
                    found[identifier] = Stored(
                        row, ordinal, content_hash, label, metadata.get(row, {})
                    )
        return found

    def commit(
        self,
        versions: Sequence[NewVersion],
        vectors: StoredVectors,
        relabellings: Sequence[Relabelling] = (),
    ) -> None:
        """Add ``versions`` as one segment, and relabel, in one transaction.

        ``vectors`` is (n_layers, n, width) float16, layers as stored and ascending.
        """
        name, files = self.write_segment(iter(vectors))
        with self.change() as connection:
            first_row = _take(connection, NEXT_ROW, len(versions))
            rows = range(first_row, first_row + len(versions))
            insert_segment(connection, name, files, rows)
            _insert_versions(connection, versions, rows)
            _relabel(connection, relabellings)

    def relabel(self, relabellings: Sequence[Relabelling]) -> None:
        """Replace label and metadata of live documents."""
        with self.change() as connection:
            _relabel(connection, relabellings)

    def delete(self, ids: Sequence[str]) -> int:
        """Mark documents dead, all or none, and return how many.

        Raises `DocumentNotFoundError`.
        """
        found = self.find(ids)
        for identifier in ids:
            if identifier not in found:
                raise DocumentNotFoundError(f"no document has the id {identifier!r}")
        with self.change() as connection:
            _bury(connection, [stored.row for stored in found.values()])
        return len(found)

    def set(self, key: str, value: Any) -> None:
        """Remember a setting."""
        with self.change() as connection:
            connection.execute(delete(SettingRow).where(SettingRow.key == key))
            connection.execute(insert(SettingRow).values(key=key, value=value))

    def segments(self) -> list[Segment]:
        """Return all segments in row order."""
        with self.transaction() as connection:
            return read_segments(connection)

    def write_segment(
        self, layers: Iterator[NDArray[np.float16]]
    ) -> tuple[str, dict[int, SegmentFile]]:
        """Write one file per stored layer from (n, width) float16; not yet committed."""
        name = uuid.uuid4().hex[:16]
        temporary = self._folder / f"{name}.new"
        temporary.mkdir()
        files: dict[int, SegmentFile] = {}
        for layer, vectors in zip(self._layers, layers, strict=True):
            data = serialize_layer(vectors)
            crc32 = write_file(temporary / layer_filename(layer), data)
            files[layer] = SegmentFile(data.nbytes, crc32)
        sync_folder(temporary)
        temporary.rename(self._folder / name)
        sync_folder(self._folder)
        return name, files

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run one transaction: all of it or nothing."""
        with self._connection.begin():
            yield self._connection

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """Run one transaction that readers will notice."""
        with self.transaction() as connection:
            _take(connection, COMMITS, 1)
            yield connection


def _stored_columns() -> Select[str, int, int, bytes, str | None]:
    return select(
        DocumentRow.id,
        DocumentRow.row,
        DocumentRow.ordinal,
        DocumentRow.content_hash,
        DocumentRow.label,
    )


def _take(connection: Connection, counter: str, n: int) -> int:
    value: int = read_setting(connection, counter)
    connection.execute(update(SettingRow).where(SettingRow.key == counter).values(value=value + n))
    return value


def insert_segment(
    connection: Connection, name: str, files: Mapping[int, SegmentFile], rows: Sequence[int]
) -> None:
    """Make a written segment part of the index; ``rows`` ascend by position."""
    statement = insert(SegmentRow).values(
        name=name, n_documents=len(rows), first_row=int(rows[0]), last_row=int(rows[-1])
    )
    connection.execute(statement)
    segment_id = connection.scalar(select(SegmentRow.id).where(SegmentRow.name == name))
    connection.execute(
        insert(SegmentFileRow),
        [
            {"segment_id": segment_id, "layer": layer, "size_bytes": f.size_bytes, "crc32": f.crc32}
            for layer, f in files.items()
        ],
    )


def _insert_versions(
    connection: Connection, versions: Sequence[NewVersion], rows: Sequence[int]
) -> None:
    _bury(connection, [v.replaces.row for v in versions if v.replaces is not None])
    n_fresh = sum(version.replaces is None for version in versions)
    ordinals = iter(range(_take(connection, NEXT_ORDINAL, n_fresh), 1 << 62))
    connection.execute(
        insert(DocumentRow),
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
    connection.execute(insert(TextRow), texts)
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
        connection.execute(insert(MetadatumRow), values)


def _relabel(connection: Connection, relabellings: Sequence[Relabelling]) -> None:
    if not relabellings:
        return
    connection.execute(
        update(cast(Table, DocumentRow.__table__))
        .where(DocumentRow.row == bindparam("at_row"))
        .values(label=bindparam("new_label")),
        [{"at_row": change.row, "new_label": change.label} for change in relabellings],
    )
    for chunk in chunks([change.row for change in relabellings], CHUNK):
        connection.execute(delete(MetadatumRow).where(MetadatumRow.row.in_(chunk)))
    _insert_metadata(connection, ((change.row, change.metadata) for change in relabellings))


def _bury(connection: Connection, rows: Sequence[int]) -> None:
    for chunk in chunks(rows, CHUNK):
        statement = update(DocumentRow).where(DocumentRow.row.in_(chunk))
        connection.execute(statement.values(live=False))
