"""What a test of mounts does within a mount namespace of its own; run alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import LayerdexError, LockedIndexError, OptionError, StorageError
from tests.encoders import WordEncoder
from tests.storage.corpora import ids_of, rows


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def ids(n: int) -> list[str]:
    return [f"d{i}" for i in range(n)]


def inodes(folder: Path) -> None:
    """Fill the table of inodes, read, make room, and go on."""
    mount("-t", "tmpfs", "-o", "nr_inodes=60", "none", folder)
    path = folder / "index"
    Index.create(path, model=WordEncoder())
    index = Index.open(path, encoder=WordEncoder())
    ballast = _fill(folder)
    failures = []
    while message := _error_of(index):  # so that each file in turn is the one without an inode
        assert "\n" not in message
        assert "No space left" in message or "full" in message, message
        failures.append(message)
        assert ids_of(Index.open(path)) == []
        assert Index.open(path).verify() == []
        ballast.pop().unlink()
    assert len(failures) > 2
    assert ids_of(Index.open(path)) == ids(8)
    assert Index.open(path).verify() == []


def _fill(folder: Path) -> list[Path]:
    """Make files until no more can be made."""
    files: list[Path] = []
    with suppress(OSError):
        while True:
            file = folder / f"file{len(files)}"
            file.touch()
            files.append(file)
    return files


def _error_of(index: Index) -> str | None:
    try:
        index.add(rows(8))
    except LayerdexError as error:
        return str(error)
    return None


def bind(folder: Path) -> None:
    """See one index by two paths: there is one lock, and each sees what the other commits."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    mount("--bind", folder / "one", folder / "two")
    first = Index.create(folder / "one" / "index", model=WordEncoder())
    second = Index.open(folder / "two" / "index", encoder=WordEncoder())
    first.add(rows(3))
    with first._open.store.write() as writer:
        with pytest.raises(LockedIndexError):
            second.add(rows(4), lock_timeout_s=0)
        writer.delete(["d0"])
        assert ids_of(second) == ["d1", "d2"]
    assert second.add(rows(3)).n_new == 1
    assert len(first) == len(second) == 3
    first.compact()
    assert second.verify() == []


def overlay(folder: Path) -> None:
    """Use an index of the lower layer of an overlay, which is copied up when written to."""
    mount("-t", "tmpfs", "none", folder)
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir()
    Index.create(folder / "lower" / "index", model=WordEncoder()).add(rows(5))
    before = {p: p.read_bytes() for p in (folder / "lower").rglob("*") if p.is_file()}
    # Without `userxattr` an overlay of a user namespace cannot rename any folder.
    layers = f"userxattr,lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
    mount("-t", "overlay", "overlay", "-o", layers, folder / "merged")
    path = folder / "merged" / "index"
    reader = Index.open(path, encoder=WordEncoder())  # opened before anything is copied up
    assert len(reader.search("text number1", k=1)) == 1
    writer = Index.open(path, encoder=WordEncoder())
    assert writer.add(rows(8)).n_new == 3
    writer.delete("d0")
    with writer._open.store.write(), pytest.raises(LockedIndexError):
        reader.add(rows(1), lock_timeout_s=0)
    for index in (reader, Index.open(path, encoder=WordEncoder())):
        assert ids_of(index) == ids(8)[1:]
        assert len(index.search("text number7", k=1)) == 1
    writer.compact()
    assert ids_of(reader) == ids(8)[1:]
    assert reader.verify() == []
    assert {p: p.read_bytes() for p in before} == before
    read_only(folder, path)


def read_only(folder: Path, path: Path) -> None:
    """Read an index of an overlay without an upper layer, and refuse to write to it."""
    (folder / "empty").mkdir()
    (folder / "view").mkdir()
    layers = f"lowerdir={path.parent}:{folder}/empty"
    mount("-t", "overlay", "overlay", "-o", layers, folder / "view")
    index = Index.open(folder / "view" / "index", encoder=WordEncoder())
    assert ids_of(index) == ids(8)[1:]
    assert index.verify() == []
    with pytest.raises(StorageError, match="Read-only"):
        index.delete("d1")
    assert ids_of(index) == ids(8)[1:]


def restored(folder: Path) -> None:
    """Refuse to put an index in the place of a mount, also of a folder of the same disk."""
    index = Index.create(folder / "backup", model=WordEncoder())
    index.add(rows(3))
    for name in ("own", "same disk", "empty"):
        (folder / name).mkdir()
        Index.create(folder / name, model=WordEncoder())
    index.backup(folder / "elsewhere")
    mount("-t", "tmpfs", "none", folder / "own")
    mount("--bind", folder / "elsewhere", folder / "same disk")
    mount("-t", "tmpfs", "none", folder / "empty")
    Index.create(folder / "own", model=WordEncoder())
    before = sorted(folder.iterdir())
    for name in ("own", "same disk", "empty"):
        with pytest.raises(OptionError, match="mount point, which cannot be exchanged"):
            index.restore(folder / name)
    assert sorted(folder.iterdir()) == before
    assert list((folder / "empty").iterdir()) == []
    assert index.restore(folder / "empty" / "index") == 3  # a folder inside it
    assert ids_of(Index.open(folder / "empty" / "index")) == ids(3)


def full(folder: Path) -> None:
    """Copy to a disk that is full at each size in turn, until the copy fits."""
    index = Index.create(folder / "index", model=WordEncoder())
    index.add(rows(20))
    (folder / "small").mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "none", folder / "small")
    target, ballast = folder / "small" / "copy", folder / "small" / "ballast"
    n_failures = n_copies = 0
    for n_free in range(0, 1 << 20, 1 << 14):
        ballast.write_bytes(bytes((1 << 20) - n_free))
        for copy in (index.backup, index.restore):
            try:
                copy(target)
            except StorageError as error:
                n_failures += 1
                message = str(error)
                starts = (f"cannot write {target}: ", f"cannot write in {target.parent}: ")
                assert message.startswith(starts), message
                assert "full" in message or "No space left" in message, message
                assert list(target.parent.iterdir()) == [ballast]
            else:
                assert ids_of(Index.open(target)) == ids(20)
                shutil.rmtree(target)
                n_copies += 1
        if n_copies >= 4:
            break
    assert n_failures > 6
    assert n_copies >= 4


if __name__ == "__main__":
    kinds = {kind.__name__: kind for kind in (inodes, bind, overlay, restored, full)}
    for name in sys.argv[2:]:
        (Path(sys.argv[1]) / name).mkdir()
        kinds[name](Path(sys.argv[1]) / name)
