"""A version of Layerdex with one more schema revision, to which this version's indexes migrate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.storage.catalog import revisions
from tests.encoders import WordEncoder
from tests.storage.corpora import Row, rows
from tests.storage.stored import query

OLD, NEXT = "0004", "9000"
DOCUMENTS: list[Row] = [
    {**row, "ok": True, "zero": -0.0} if row["id"] == "d3" else row for row in rows(12)
]


def make_old(folder: Path) -> Path:
    """Create an index of this version, with a dead document version."""
    index = Index.create(folder / "index", model=WordEncoder())
    index.add(DOCUMENTS)
    index.add([{"id": "d4", "text": "another text"}])
    return index._open.store.path


@contextmanager
def installed() -> Iterator[None]:
    """Have the next schema for a while."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(revisions, "SCHEMA_VERSION", NEXT)
        patched.setattr(revisions, "OLDER_SCHEMAS", (OLD,))
        folders = [*revisions.REVISION_FOLDERS, "tests:storage/next_schema/versions"]
        patched.setattr(revisions, "REVISION_FOLDERS", folders)
        yield


def schema_of(path: Path) -> str:
    ((version,),) = query(path, "SELECT version_num FROM alembic_version")
    return str(version)
