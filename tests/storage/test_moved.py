"""A directory that is moved while a writer works: nothing is written to the one in its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from layerdex import Index
from layerdex.errors import StorageError
from layerdex.indexer.pipeline.build import build
from layerdex.indexer.readers.sources import read_all
from layerdex.storage.catalog.changes import mark_dead
from layerdex.storage.store import Store
from tests.encoders import WordEncoder
from tests.storage.corpora import Row, ids_of, reopen, rows
from tests.storage.scenes import Scene, check, make_scene, spread
from tests.storage.steps import OPERATIONS, operate, watched
from tests.storage.stored import query, read_versions

CATALOG = "catalog.sqlite3"
MOVED = "was moved, removed or replaced while .* was written to.*nothing more is committed"


def entries(path: Path) -> dict[str, bytes | None]:
    """Return all that is in a directory, but for the memory that SQLite shares."""
    return {
        str(entry.relative_to(path)): entry.read_bytes() if entry.is_file() else None
        for entry in path.rglob("*")
        if not entry.name.endswith("-shm")
    }


class Swap:
    """Puts another directory in the place of ``path``, as `mv` does, before a step."""

    def __init__(self, path: Path, new: Path, *, at: int) -> None:
        self.path, self.new = path, new
        self.moved = path.with_name("moved")
        self.n_steps, self._at = 0, at

    def step(self, _: str) -> None:
        self.n_steps += 1
        if self.n_steps == self._at + 1:
            # Not by `Path.rename`, which is watched.
            os.rename(self.path, self.moved)  # noqa: PTH104
            os.rename(self.new, self.path)  # noqa: PTH104


@pytest.fixture(scope="module", params=OPERATIONS)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(request.param, tmp_path_factory.mktemp(request.param))


def copy_as_killed(path: Path, target: Path) -> None:
    """Copy the same index with a log that has a commit."""
    with Store(path).write() as writer:
        writer.set("best_layer", None)
        shutil.copytree(path, target)
    assert (target / f"{CATALOG}-wal").stat().st_size > 0


@pytest.mark.one_in(2)
def test_directory_swapped_at_any_step_is_noticed_and_the_other_is_not_touched(
    scene: Scene, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    n_steps = 100 if pytestconfig.getoption("--soak") else 4
    n_noticed, locked = 0, scene.steps.index("unlink")  # of the seal
    template = tmp_path / "template"
    shutil.copytree(scene.before, tmp_path / "written")
    copy_as_killed(tmp_path / "written", template)
    before = entries(template)
    for at in spread(list(range(locked, len(scene.steps))), n_steps):
        folder = tmp_path / str(at)
        shutil.copytree(scene.before, folder / "index")
        shutil.copytree(template, folder / "new")
        swap = Swap(folder / "index", folder / "new", at=at)
        error = _operate(scene, swap)
        n_noticed += error is not None
        assert error is None or ("nothing more is committed" in error and str(swap.path) in error)
        assert entries(swap.path) == before
        check(scene, swap.moved)
    check(scene, swap.path)  # the same bytes each time
    assert n_noticed > 0


def _operate(scene: Scene, swap: Swap) -> str | None:
    """Return the error's message, or None if all was committed before."""
    try:
        with watched(swap.step):
            operate(scene.operation, swap.path, encoder=WordEncoder)
    except StorageError as error:
        return str(error)
    assert scene.operation == "repair" or scene.states[-1] == read_versions(swap.moved)
    return None


@pytest.fixture
def path(index: Index) -> Path:
    index.add(rows(9))
    return index._open.store.path


def move(path: Path) -> None:
    path.rename(path.with_name("moved"))


def replace_catalog(path: Path) -> None:
    shutil.copyfile(path / CATALOG, path / "copy")
    (path / "copy").replace(path / CATALOG)


def replace_lock(path: Path) -> None:
    (path / "writer.lock").unlink()
    (path / "writer.lock").touch()


def replace_link(path: Path) -> None:
    """Have the path be a link to another copy, as deployments do."""
    shutil.copytree(path, path.with_name("other"))
    path.rename(path.with_name("moved"))
    path.symlink_to("other")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (move, ""),
        (lambda path: (path / "writer.lock").unlink(), "writer.lock"),
        (replace_catalog, CATALOG),
        (replace_lock, "writer.lock"),
        (replace_link, ""),
    ],
)
def test_writer_that_lost_its_place_commits_nothing_more(
    path: Path, change: Callable[[Path], object], name: str
) -> None:
    n_seen = 0

    def progress(done: int, _: object) -> None:
        nonlocal n_seen
        n_seen += 1
        if n_seen == 2:
            change(path)

    index = Index.open(path, encoder=WordEncoder())
    with pytest.raises(StorageError, match=MOVED) as caught:
        index.add(rows(60, start=100), on_progress=progress)
    assert str(caught.value).startswith(str(path / name))
    left = path.with_name("moved") if name == "" else path
    assert (f"what was committed is in {left}" in str(caught.value)) == (name == "")
    if name != CATALOG:  # in whose place is a copy without the log
        n = len(ids_of(Index.open(left)))
        assert 9 < n < 69
        assert (n - 9) % 8 == 0
        assert Index.open(left).verify() == []
        Index.open(left, encoder=WordEncoder()).add(rows(60, start=100))
        assert len(ids_of(Index.open(left))) == 69


@pytest.mark.parametrize("change", [move, replace_lock, replace_link])
def test_directory_that_moves_within_a_transaction_is_left_as_it_was(
    path: Path, change: Callable[[Path], object]
) -> None:
    moved = path if change is replace_lock else path.with_name("moved")
    before = read_versions(path)

    def delete() -> None:
        with Store(path).write() as writer, writer.change() as connection:
            mark_dead(connection, [0, 1])
            change(path)

    with pytest.raises(StorageError, match=MOVED):
        delete()
    assert read_versions(moved) == before
    assert Index.open(moved).verify() == []


def test_directory_that_moves_during_a_vacuum_gets_no_further_state(path: Path) -> None:
    def vacuum() -> None:
        with Store(path).write() as writer:
            driver: Any = writer._connection.connection.driver_connection
            driver.set_trace_callback(lambda text: move(path) if text == "VACUUM" else None)
            writer.vacuum()

    with pytest.raises(StorageError, match=MOVED):
        vacuum()
    assert query(path.with_name("moved"), "PRAGMA application_id") == [(0,)]
    assert Index.open(path.with_name("moved")).verify() == []


def test_second_writer_after_the_lock_was_removed_ends_the_first(path: Path) -> None:
    with Store(path).write() as first:
        first.delete(["d1"])
        (path / "writer.lock").unlink()
        with Store(path).write(lock_timeout_s=0) as second:
            second.delete(["d2"])
            with pytest.raises(StorageError, match=r"writer.lock was moved, removed or replaced"):
                first.delete(["d3"])
    assert ids_of(Index.open(path)) == ["d0", *(f"d{i}" for i in range(3, 9))]
    assert Index.open(path).verify() == []


def test_lock_of_a_directory_that_was_replaced_meanwhile_is_not_enough(path: Path) -> None:
    """The lock is opened, then the directory is moved, then the lock is taken."""
    shutil.copytree(path, path.with_name("new"))
    index = Index.open(path, encoder=WordEncoder())
    with pytest.MonkeyPatch.context() as patched:
        acquire = FileLock.acquire

        def moved_meanwhile(lock: FileLock) -> object:
            patched.undo()
            answer = acquire(lock)
            move(path)
            path.with_name("new").rename(path)
            return answer

        patched.setattr(FileLock, "acquire", moved_meanwhile)
        before = entries(path)
        index.add(rows(1, start=50))
    assert entries(path.with_name("moved")) == before
    assert ids_of(reopen(index))[-1] == "d50"


def test_source_that_is_read_while_the_directory_moves(path: Path) -> None:
    def documents() -> Iterator[Row]:
        yield from rows(20, start=100)
        move(path)
        path.mkdir()
        yield from rows(20, start=200)

    with pytest.raises(StorageError, match=MOVED):
        build(Store(path), read_all([documents()]), WordEncoder)
    assert list(path.iterdir()) == []


def test_reader_that_ends_touches_nothing_in_the_new_place(path: Path) -> None:
    index = Index.open(path, encoder=WordEncoder())
    copy_as_killed(path, path.with_name("new"))
    before = entries(path.with_name("new"))
    with index._open.store.read() as snapshot:
        move(path)
        path.with_name("new").rename(path)
        assert snapshot.n_documents == 9
    assert entries(path) == before
    assert (path / f"{CATALOG}-shm").exists()


def test_reader_does_not_mind_that_the_same_index_is_put_in_its_place(path: Path) -> None:
    index = Index.open(path, encoder=WordEncoder())
    shutil.copytree(path, path.with_name("new"))
    move(path)
    path.with_name("new").rename(path)
    assert len(index) == 9
