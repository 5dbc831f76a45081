"""The digests of catalog rows, computed apart from the package, as a forger would."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from operator import itemgetter
from pathlib import Path


def redigest(path: Path) -> None:
    """Make every digest in the catalog of the index at ``path`` fit its row again."""
    with closing(sqlite3.connect(path / "catalog.sqlite3")) as connection, connection:
        _redigest_settings(connection)
        _redigest_segments(connection)
        _redigest_documents(connection)


def _digest(*fields: str | int | float | None) -> int:
    written = ["-" if field is None else f"{len(text := str(field))}:{text}" for field in fields]
    hashed = hashlib.blake2b("".join(written).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def _redigest_settings(connection: sqlite3.Connection) -> None:
    settings = connection.execute("SELECT key, value FROM setting").fetchall()
    digests = [
        (_digest(key, json.dumps(_parse(value), sort_keys=True)), key) for key, value in settings
    ]
    connection.executemany("UPDATE setting SET digest = ? WHERE key = ?", digests)


def _parse(value: str | float) -> object:
    return json.loads(value) if isinstance(value, str) else value  # SQLite keeps numbers as such


def _redigest_segments(connection: sqlite3.Connection) -> None:
    query = "SELECT id, name, n_documents, first_row, last_row FROM segment"
    for segment_id, *columns in connection.execute(query).fetchall():
        files = connection.execute(
            "SELECT layer, size_bytes, crc32, block_hashes FROM segment_file "
            "WHERE segment_id = ? ORDER BY layer",
            (segment_id,),
        )
        of_files = []
        for *file, hashes in files:
            of_files += file
            if hashes is not None:
                of_files.append(hashes.hex() if isinstance(hashes, bytes) else str(hashes))
        digest = _digest(*columns, *of_files)
        connection.execute("UPDATE segment SET digest = ? WHERE id = ?", (digest, segment_id))


def _redigest_documents(connection: sqlite3.Connection) -> None:
    query = (
        "SELECT row, id, ordinal, label, hex(content_hash), n_characters, n_tokens, truncated, "
        "n_unknown, unreadable, live FROM document"
    )
    for row, identifier, ordinal, label, content_hash, *numbers, live in connection.execute(
        query
    ).fetchall():
        fields = connection.execute(
            "SELECT name, kind, text, number FROM metadatum WHERE row = ?", (row,)
        ).fetchall()
        of_metadata = _digest(
            *(
                value
                for name, kind, text, number in sorted(fields, key=itemgetter(0))
                # SQLite does not keep the sign of zero.
                for value in (name, kind, text, None if number is None else number + 0.0)
            )
        )
        if numbers[3] is None:  # not counted
            del numbers[3:]
        digest = _digest(
            row, identifier, ordinal, label, content_hash.lower(), *numbers, of_metadata
        )
        connection.execute(
            "UPDATE document SET metadata_digest = ?, digest = ? WHERE row = ?",
            (of_metadata, digest if live else ~digest, row),
        )
