"""What a commit writes into the catalog, within the caller's transaction."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from layerdex.records import Scalar
from layerdex.storage.catalog.metadata import encode_value
from layerdex.storage.catalog.row_digests import (
    metadata_digest,
    segment_digest,
    setting_digest,
)
from layerdex.storage.catalog.rows import (
    MAX_PARAMETERS,
    VERSION_FIELDS,
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


def insert_versions(
    connection: Connection, versions: Sequence[NewVersion], rows: Sequence[int]
) -> None:
    """Add document versions at ``rows``, and mark the versions that they replace dead."""
    replaced = [version.replaces.row for version in versions if version.replaces is not None]
    mark_dead(connection, replaced)
    n_new = len(versions) - len(replaced)
    ordinals = count(advance_counter(connection, NEXT_ORDINAL, n_new))
    documents, metadata = [], []
    for row, version in zip(rows, versions, strict=True):
        fields = _metadata_rows(row, version.metadata)
        new = Version(
            row=row,
            id=version.id,
            ordinal=next(ordinals) if version.replaces is None else version.replaces.ordinal,
            label=version.label,
            content_hash=version.content_hash,
            n_characters=len(version.text),
            n_tokens=version.n_tokens,
            truncated=version.truncated,
            n_unknown=version.n_unknown,
            unreadable=version.unreadable,
            metadata_digest=_digest_of(fields),
            metadata={},
        )
        values = {name: getattr(new, name) for name in VERSION_FIELDS}
        documents.append({**values, "live": True, "digest": new.digest()})
        metadata += fields
    connection.execute(insert(DOCUMENT), documents)
    texts = [{"row": row, "text": v.text} for row, v in zip(rows, versions, strict=True)]
    connection.execute(insert(DOCUMENT_TEXT), texts)
    if metadata:
        connection.execute(insert(METADATUM), metadata)


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
    if metadata:
        connection.execute(insert(METADATUM), metadata)


def mark_dead(connection: Connection, rows: Sequence[int]) -> None:
    """Mark live document versions dead."""
    for chunk in chunks(rows, MAX_PARAMETERS):
        statement = update(DOCUMENT).where(DOCUMENT.c.row.in_(chunk))
        connection.execute(statement.values(live=False, digest=DOCUMENT.c.digest.bitwise_not()))


def _metadata_rows(row: int, metadata: Mapping[str, Scalar]) -> list[dict[str, Any]]:
    """Return a document's metadata as rows of the table `METADATUM`."""
    rows = []
    for name, value in metadata.items():
        value_type, text, number = encode_value(value)
        fields = {"name": name, "kind": value_type.value, "text": text, "number": number}
        rows.append({"row": row, **fields})
    return rows


def _digest_of(rows: Sequence[Mapping[str, Any]]) -> int:
    return metadata_digest((r["name"], r["kind"], r["text"], r["number"]) for r in rows)
