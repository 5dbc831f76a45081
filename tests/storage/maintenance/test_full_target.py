"""A full disk under a copy: the target is named, and nothing is left of it."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.errors import LayerdexError, StorageError
from tests.encoders import WordEncoder
from tests.storage.corpora import ids_of, rows
from tests.storage.steps import accelerate


@pytest.fixture
def source(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "source", model=WordEncoder())
    index.add(rows(24))
    index.fit_transforms()
    accelerate(index, 0.5)
    return index


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond ``n_bytes``, which is EFBIG, for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sizes(index: Index) -> list[int]:
    return sorted(file.stat().st_size for file in index.path.rglob("*") if file.is_file())


def copies(index: Index, tmp_path: Path) -> Iterator[tuple[Callable[[], int], Path]]:
    """Yield each way to copy an index, with its target."""
    other = Index.create(tmp_path / "other", model=WordEncoder())
    for target in (tmp_path / "new", other.path):
        yield partial(index.restore, target), target
    yield partial(index.backup, tmp_path / "backup"), tmp_path / "backup"


def assert_fails_whole(copy: Callable[[], int], target: Path, reason: str) -> None:
    before = set(target.parent.iterdir())
    with pytest.raises(StorageError, match=reason) as caught:
        copy()
    assert str(caught.value).startswith(f"cannot write {target}: ")
    assert set(target.parent.iterdir()) == before


def test_bound_on_files_names_the_target(source: Index, tmp_path: Path) -> None:
    *_, second, largest = sizes(source)
    assert second < 40_000 < largest  # only the catalog is larger
    for copy, target in copies(source, tmp_path):
        for n_bytes, reason in ((100, "File too large"), (40_000, "disk I/O error")):
            with largest_file(n_bytes):
                assert_fails_whole(copy, target, reason)
        copy()
        assert ids_of(Index.open(target)) == ids_of(source)


def fail_at(
    patched: pytest.MonkeyPatch, name: str, number: int, *, step: int
) -> Callable[[], bool]:
    """Have one call of a function of `os` fail; return what says whether it came to that."""
    real: Callable[..., Any] = getattr(os, name)
    calls = count()
    n_failed = 0

    def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal n_failed
        if next(calls) == step:
            n_failed += 1
            named = [name for name in arguments[:1] if not isinstance(name, int)]
            raise OSError(number, os.strerror(number), *map(str, named))
        return real(*arguments, **options)

    patched.setattr(os, name, failing)
    return lambda: n_failed > 0


@pytest.mark.parametrize(
    ("name", "number"),
    [("write", errno.ENOSPC), ("fsync", errno.EDQUOT), ("mkdir", errno.ENOSPC)],
)
def test_any_failing_step_names_the_target(
    source: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    for copy, target in copies(source, tmp_path):
        before, messages = set(tmp_path.iterdir()), []
        for step in count(step=3):
            with monkeypatch.context() as patched:
                has_failed = fail_at(patched, name, number, step=step)
                try:
                    copy()
                except LayerdexError as error:
                    messages.append(str(error))
            if target not in before and target.exists():  # all but the last flush was done
                shutil.rmtree(target)
            assert set(tmp_path.iterdir()) == before
            if not has_failed():
                break
        # The last flush is that of the target's name.
        starts = (
            f"cannot write {target}: ",
            f"cannot write in {tmp_path}: ",
            f"cannot use {tmp_path}:",
        )
        assert messages
        assert all(message.startswith(tuple(starts)) for message in messages), messages
        assert all(os.strerror(number) in message for message in messages)
