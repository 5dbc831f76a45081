"""The ids of a run: explicit ids must be unique, derived ids are made so."""

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
CREATE TABLE assigned (id TEXT PRIMARY KEY, origin TEXT NOT NULL, content BLOB) WITHOUT ROWID;
CREATE TABLE protected (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE repeated (hash BLOB PRIMARY KEY, occurrence INTEGER NOT NULL) WITHOUT ROWID;
BEGIN;
"""
"""Nothing is committed or recovered: the database is deleted with the run."""


def content_hash(text: str) -> bytes:
    """Return the SHA-256 of the text's UTF-8, nothing stripped: 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


def is_derived(id_: str, digest: bytes) -> bool:
    """Return whether an id was made from the text with this hash."""
    first, _, occurrence = id_.partition("-")
    return first == digest.hex()[:DERIVED_DIGITS] and (not occurrence or occurrence.isdecimal())


def content_digest(document: SourceDocument, text_hash: bytes) -> bytes:
    """Return a digest of text, label and metadata, which tells 1 from 1.0 and true: 16 bytes."""
    rest = repr((document.label, sorted(document.metadata.items())))
    return hashlib.blake2b(text_hash + rest.encode(), digest_size=16).digest()


class RunIds:
    """Assigns ids to the documents of a run, in memory bounded by a cache.

    The ids are in a temporary SQLite database (https://sqlite.org/inmemorydb.html), which spills to
    a private file. Only one thread at a time may use it.
    """

    def __init__(self) -> None:
        with _translate_errors():
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._database.executescript(SCHEMA)

    def assign(
        self, documents: Iterable[tuple[SourceDocument, bytes]]
    ) -> list[str | Rejected | None]:
        """Return each document's id, or a `Rejected` for an explicit id that is taken.

        None is for an identical repeat: explicit id, text, label and metadata are those of an
        earlier row. Documents come with the hash of their text. A document without an id gets the
        hash's first 32 hex digits; the n-th with the same text in the run gets ``-n`` appended, or
        the next free number.
        """
        with _translate_errors():
            return [
                self._derived(document, digest)
                if document.id is None
                else self._explicit(document, document.id, digest)
                for document, digest in documents
            ]

    def protect(self, id_: str) -> None:
        """Record the id of a document whose row was rejected, as it has not vanished."""
        with _translate_errors():
            self._database.execute("INSERT OR IGNORE INTO protected VALUES (?)", (id_,))

    def unseen(self, ids: Sequence[str]) -> list[str]:
        """Return those of at most 900 ids that were neither assigned nor protected, in order."""
        marks = ",".join("?" * len(ids))
        query = (
            f"SELECT id FROM assigned WHERE id IN ({marks}) "
            f"UNION ALL SELECT id FROM protected WHERE id IN ({marks})"
        )
        with _translate_errors():
            seen = {id_ for (id_,) in self._database.execute(query, (*ids, *ids))}
        return [id_ for id_ in ids if id_ not in seen]

    def close(self) -> None:
        """Delete the temporary database."""
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

    def _explicit(self, document: SourceDocument, id_: str, digest: bytes) -> str | Rejected | None:
        content = content_digest(document, digest)
        if self._claim(id_, document, content):
            return id_
        query = "SELECT origin, content FROM assigned WHERE id = ?"
        origin, first_content = self._database.execute(query, (id_,)).fetchone()
        if content == first_content:
            return None
        differs = "" if first_content is None else ", with other content"
        return Rejected(document.origin, f"id {id_!r} was already given at {origin}{differs}", id_)

    def _derived(self, document: SourceDocument, digest: bytes) -> str:
        first = digest.hex()[:DERIVED_DIGITS]
        if self._claim(first, document):
            return first
        row = self._database.execute(
            "SELECT occurrence FROM repeated WHERE hash = ?", (digest,)
        ).fetchone()
        occurrence = 2 if row is None else row[0] + 1
        while not self._claim(f"{first}-{occurrence}", document):
            occurrence += 1
        self._database.execute("REPLACE INTO repeated VALUES (?, ?)", (digest, occurrence))
        return f"{first}-{occurrence}"

    def _claim(self, id_: str, document: SourceDocument, content: bytes | None = None) -> bool:
        """Assign an id to a document; False if it is taken."""
        cursor = self._database.execute(
            "INSERT OR IGNORE INTO assigned VALUES (?, ?, ?)", (id_, str(document.origin), content)
        )
        return cursor.rowcount == 1


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"cannot store the run's ids in a temporary file: {error}") from error
