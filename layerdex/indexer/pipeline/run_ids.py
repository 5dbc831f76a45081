"""The ids of a run: explicit ones once, derived ones without loss."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from layerdex.errors import StorageError
from layerdex.records import Rejected, SourceDocument

DERIVED_DIGITS = 32
CACHE_KIB = 8192

SCHEMA = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -{CACHE_KIB};
CREATE TABLE given (id TEXT PRIMARY KEY, origin TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE spared (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE repeated (hash BLOB PRIMARY KEY, occurrence INTEGER NOT NULL) WITHOUT ROWID;
BEGIN;
"""
"""Nothing is ever committed or recovered: the database dies with the run."""


def content_hash(text: str) -> bytes:
    """Return the SHA-256 of the text's UTF-8, nothing stripped: 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


class RunIds:
    """The ledger that gives each document of a run its id, in memory bounded by a cache.

    It lives in a private temporary SQLite database (https://sqlite.org/inmemorydb.html), which
    spills to a file that nobody else sees. One thread at a time may use it.
    """

    def __init__(self) -> None:
        with _reporting():
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._database.executescript(SCHEMA)

    def assign(self, documents: Iterable[tuple[SourceDocument, bytes]]) -> list[str | Rejected]:
        """Return each document's id, or why it cannot have the one it brings.

        Documents come with the hash of their text. One without an id gets the hash's first 32
        hex digits; the n-th in the run with the same text gets ``-n`` appended, or the next
        number that is free.
        """
        with _reporting():
            return [
                self._derived(document, digest)
                if document.id is None
                else self._explicit(document, document.id)
                for document, digest in documents
            ]

    def spare(self, id_: str) -> None:
        """Remember the id of a document whose row was rejected: it has not vanished."""
        with _reporting():
            self._database.execute("INSERT OR IGNORE INTO spared VALUES (?)", (id_,))

    def unknown(self, ids: Sequence[str]) -> list[str]:
        """Return those of at most 900 ids that were neither assigned nor spared, in order."""
        marks = ",".join("?" * len(ids))
        query = (
            f"SELECT id FROM given WHERE id IN ({marks}) "
            f"UNION ALL SELECT id FROM spared WHERE id IN ({marks})"
        )
        with _reporting():
            known = {id_ for (id_,) in self._database.execute(query, (*ids, *ids))}
        return [id_ for id_ in ids if id_ not in known]

    def close(self) -> None:
        """Give the temporary database back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _explicit(self, document: SourceDocument, id_: str) -> str | Rejected:
        if self._is_taken_now(id_, document):
            return id_
        row = self._database.execute("SELECT origin FROM given WHERE id = ?", (id_,)).fetchone()
        return Rejected(document.origin, f"id {id_!r} was already given at {row[0]}", id_)

    def _derived(self, document: SourceDocument, digest: bytes) -> str:
        first = digest.hex()[:DERIVED_DIGITS]
        if self._is_taken_now(first, document):
            return first
        found = self._database.execute(
            "SELECT occurrence FROM repeated WHERE hash = ?", (digest,)
        ).fetchone()
        occurrence = 2 if found is None else found[0] + 1
        while not self._is_taken_now(f"{first}-{occurrence}", document):
            occurrence += 1
        self._database.execute("REPLACE INTO repeated VALUES (?, ?)", (digest, occurrence))
        return f"{first}-{occurrence}"

    def _is_taken_now(self, id_: str, document: SourceDocument) -> bool:
        """Take an id for a document; False if it was taken before."""
        cursor = self._database.execute(
            "INSERT OR IGNORE INTO given VALUES (?, ?)", (id_, str(document.origin))
        )
        return cursor.rowcount == 1


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"cannot keep the run's ids in a temporary file: {error}") from error
