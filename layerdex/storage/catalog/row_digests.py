"""Digests of catalog rows, which find damage before it becomes part of an answer.

A digest is the first 64 bits of BLAKE2b over a row's fields, each written with its length. The
digest of a dead document version is inverted bit by bit, so that it covers liveness too, and
marking versions dead need not read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from operator import itemgetter
from typing import TYPE_CHECKING

from layerdex.errors import DamagedIndexError

if TYPE_CHECKING:
    from layerdex.storage.vectors.layer_vectors import Segment

Field = str | int | float | None

_RESTORE = "restore the catalog from a backup"
_REMEDIES = {
    "approximate": "run 'layerdex accelerate INDEX --drop', then 'layerdex accelerate' again",
}
"""Of settings without which nothing is lost."""


def fields_digest(*fields: Field) -> int:
    """Return the digest of a row's fields, a signed 64-bit integer.

    Numbers are digested as Python prints them, booleans as 0 and 1, None unlike any text.
    """
    written = ["-" if field is None else f"{len(text := str(field))}:{text}" for field in fields]
    hashed = hashlib.blake2b("".join(written).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def document_digest(
    row: int,
    identifier: str,
    ordinal: int,
    label: str | None,
    content_hash: bytes,
    n_characters: int,
    n_tokens: int,
    truncated: bool,
    n_unknown: int | None,
    unreadable: bool,
    digest_of_metadata: int,
) -> int:
    """Return the digest of a live document version; that of a dead one is its inverse (``~``).

    Unknown tokens that were not counted are left out, as in the digests of schema 0002.
    """
    counts = [n_characters, n_tokens, truncated]
    if n_unknown is not None:
        counts += [n_unknown, unreadable]
    fields = row, identifier, ordinal, label, content_hash.hex()
    return fields_digest(*fields, *map(int, counts), digest_of_metadata)


def metadata_digest(fields: Iterable[tuple[str, str, str, float | None]]) -> int:
    """Return the digest of a document's metadata: name, type, text and number of each field."""
    return fields_digest(
        *(
            value
            for name, value_type, text, number in sorted(fields, key=itemgetter(0))
            # SQLite does not keep the sign of zero.
            for value in (name, value_type, text, None if number is None else number + 0.0)
        )
    )


def segment_digest(segment: Segment) -> int:
    """Return the digest of a segment's row, without its id, and of the rows of its files.

    A file without hashes of blocks is digested as in schema 0003.
    """
    of_files: list[Field] = []
    for layer, file in sorted(segment.files.items()):
        of_files += [layer, file.size_bytes, file.crc32]
        if file.block_hashes is not None:
            # SQLite allows any type anywhere; `is_valid` refuses others.
            is_blob = isinstance(file.block_hashes, bytes)
            of_files.append(file.block_hashes.hex() if is_blob else str(file.block_hashes))
    bounds = segment.first_row, segment.last_row
    return fields_digest(segment.name, segment.n_documents, *bounds, *of_files)


def setting_digest(key: str, value: object) -> int:
    """Return the digest of a setting, whose value is JSON."""
    return fields_digest(key, json.dumps(value, sort_keys=True))


def check_digest(computed: int, recorded: int, what: str) -> None:
    """Raise `DamagedIndexError` if a row does not agree with its digest."""
    if computed != recorded:
        raise damage_error(what)


def damage_error(what: str) -> DamagedIndexError:
    """Return the error for a part of the catalog that is not as it was committed."""
    return DamagedIndexError(f"{what} of the catalog is damaged: {_RESTORE}")


def setting_damage(key: str) -> DamagedIndexError:
    """Return the error for a setting that is not as it was committed."""
    remedy = _REMEDIES.get(key, _RESTORE)
    return DamagedIndexError(f"the setting {key!r} of the catalog is damaged: {remedy}")
