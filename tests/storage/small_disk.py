"""Fill a small disk with an index, read beside the full disk, make room, and go on; run alone."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from layerdex import Index
from layerdex.errors import LayerdexError
from layerdex.indexer.pipeline.build import build
from layerdex.indexer.readers.sources import read_all
from tests.encoders import ConcurrentWordEncoder, WordEncoder
from tests.storage.corpora import rows

N_DOCUMENTS = 80
_BALLAST_BYTES = 600_000


def main(folder: Path) -> None:
    """Print how many documents were committed when the disk was full, and how often it was."""
    ballast, path = folder / "ballast", folder / "index"
    ballast.write_bytes(bytes(_BALLAST_BYTES))
    Index.create(path, model=WordEncoder())
    seen: list[int] = []
    for _ in range(2):  # the disk stays full: each run stops at one clear error
        message = _fill(path)
        assert message is not None, "the disk was not filled"
        assert "\n" not in message
        assert "No space left" in message or "full" in message, message
        seen.append(_check(path))
        assert seen[-1] >= seen[0]
    ballast.unlink()
    message = _fill(path)
    assert message is None, message
    assert _check(path) == N_DOCUMENTS
    committed = {segment.name for segment in _segments(path)}
    assert {entry.name for entry in (path / "segments").iterdir()} == committed
    for shared in path.glob("*-shm"):
        shared.unlink()
    _fill_to_the_last_byte(ballast)
    assert _check(path) == N_DOCUMENTS  # although there is no room for SQLite's shared memory
    print(seen[0], len(seen))  # noqa: T201


def _fill_to_the_last_byte(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4_096)):
            pass


def _fill(path: Path) -> str | None:
    """Add all documents; return the error."""
    try:
        build(Index.open(path)._open.store, read_all([rows(N_DOCUMENTS)]), ConcurrentWordEncoder)
    except LayerdexError as error:
        return str(error)
    return None


def _check(path: Path) -> int:
    """Read everything, and return how many documents there are: whole windows, from the first."""
    index = Index.open(path, encoder=WordEncoder())
    assert index.verify() == []
    stored = [(document.id, document.text) for document in index.documents()]
    assert stored == [(str(row["id"]), str(row["text"])) for row in rows(len(stored))]
    assert len(stored) % 8 == 0
    return len(stored)


def _segments(path: Path) -> list[Path]:
    with Index.open(path)._open.store.read() as snapshot:
        return [path / "segments" / segment.name for segment in snapshot.segments]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
