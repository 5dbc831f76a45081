"""Messages name files by the path that the user gave, not by the one through a descriptor."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, LayerdexError
from layerdex.storage import files
from layerdex.storage.artifact_changes import remove_artifact, save_artifact
from layerdex.storage.artifacts import HEAD, TRANSFORM, ArtifactKind
from tests.storage.corpora import ids_of, reopen, rows


def save(index: Index, kind: ArtifactKind = HEAD) -> None:
    with index._open.store.write() as writer:
        save_artifact(writer, kind, {"a": np.zeros(3, dtype=np.float32)}, {})


def remove(index: Index, kind: ArtifactKind = HEAD) -> None:
    with index._open.store.write() as writer:
        remove_artifact(writer, kind)


OPERATIONS: dict[str, Callable[[Index], object]] = {
    "add": lambda index: index.add(rows(3, start=50)),
    "delete": lambda index: index.delete(ids_of(index)[0]),
    "compact": lambda index: index.compact(),
    "save a head": save,
    "save a transform": lambda index: save(index, TRANSFORM),
    "remove a head": remove,
}


@pytest.fixture
def filled(index: Index) -> Index:
    index.add(rows(9))
    save(index)
    index.delete("d0")
    return reopen(index)


def full_disk(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("work", OPERATIONS.values(), ids=OPERATIONS)
def test_failing_operation_names_the_users_path(
    filled: Index, monkeypatch: pytest.MonkeyPatch, work: Callable[[Index], object]
) -> None:
    path, messages = filled._open.store.path, []
    for owner, name in (
        (os, "fsync"),
        (os, "write"),
        (os, "pwrite"),
        (files, "remove_tree"),
        (Path, "mkdir"),
        (Path, "rename"),
        (Path, "unlink"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, full_disk)
            try:
                work(filled)
            except LayerdexError as error:
                messages.append(str(error))
    assert messages
    for message in messages:
        assert message.startswith(f"cannot use {path}")
        assert message.endswith(": No space left on device")


@pytest.mark.parametrize("folder", ["heads", "segments"])
@pytest.mark.parametrize("work", [save, remove], ids=["save", "remove"])
def test_link_in_place_of_a_folder_is_named_by_the_users_path(
    filled: Index, tmp_path: Path, folder: str, work: Callable[[Index], object]
) -> None:
    path = filled._open.store.path / folder
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedIndexError) as caught:
        work(filled)
    assert str(caught.value).startswith(f"{path} is ")
