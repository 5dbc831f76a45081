"""A writer killed by SIGKILL: nothing lost, nothing doubled, and a rerun completes.

Each operation is run once undisturbed, which lists its steps: every write, fsync, rename, unlink,
statement and commit. Then children die before chosen steps, and at random moments. ``--kills N``
says how many of each kind (``make soak`` takes 500).
"""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import signal
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.storage.catalog import SCHEMA_VERSION
from tests.encoders import WordEncoder
from tests.storage.corpora import flip_byte
from tests.storage.steps import DELETED, OPERATIONS, child, corpus, operate
from tests.storage.stored import Version, layer_paths, query, read_versions
from tests.storage.test_migration import unpack

# Each child is forked from a process that has imported all it needs, so it starts in no time.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.storage.steps"])


@dataclass
class Scene:
    """An index before an operation, its states on the way, and the operation's steps."""

    operation: str
    before: Path
    states: list[list[Version]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _prepare(operation: str, path: Path) -> None:
    if operation == "migrate":
        unpack("0001", path.parent)
        return
    index = Index.create(path, encoder=WordEncoder())
    index.add([{"id": f"old{i}", "text": f"old text {i}", "label": "y"} for i in range(4)])
    if operation != "index":
        index.add(corpus())
    if operation == "compact":
        index.delete("old3", "d7")
    if operation == "repair":
        first, second, *_, last = layer_paths(path)
        flip_byte(first)
        second.unlink()
        shutil.rmtree(last.parent)


def _states(scene: Scene, folder: Path) -> list[list[Version]]:
    """Return what the index may hold: after each window, or before and after all."""
    path = folder / "states"
    shutil.copytree(scene.before, path)
    states = [] if scene.operation == "repair" else [read_versions(path)]
    if scene.operation == "index":
        for end in range(8, len(corpus()) + 8, 8):
            shutil.rmtree(path)
            shutil.copytree(scene.before, path)
            Index.open(path, encoder=WordEncoder()).add(corpus()[:end])
            states.append(read_versions(path))
        return states
    operate(scene.operation, path)
    return [*states, read_versions(path)]


@pytest.fixture(scope="module", params=OPERATIONS)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp(request.param)
    scene = Scene(request.param, folder / "index")
    _prepare(scene.operation, scene.before)
    scene.states = _states(scene, folder)
    start = time.monotonic()
    code, names = _run(scene, folder, die_at=None)
    scene.seconds = time.monotonic() - start
    assert code == 0
    scene.steps = json.loads(names.read_text(encoding="utf-8"))
    return scene


def _run(
    scene: Scene,
    folder: Path,
    *,
    die_at: int | None,
    wait_s: float | None = None,
    broken: bool = False,
) -> tuple[int | None, Path]:
    """Operate on a copy of the index in a child; return how it ended."""
    path, names = folder / "killed", folder / "names.json"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(scene.before, path)
    process = _CONTEXT.Process(
        target=partial(child, scene.operation, path, die_at=die_at, names=names, broken=broken)
    )
    process.start()
    if wait_s is not None:
        time.sleep(wait_s)
        process.kill()
    process.join()
    return process.exitcode, names


def _check(scene: Scene, path: Path) -> None:
    """Judge what a killed writer left, and that a rerun completes it."""
    if scene.operation == "migrate":
        ((version,),) = query(path, "SELECT version_num FROM alembic_version")
        assert version in ("0001", SCHEMA_VERSION)
    else:
        problems = Index.open(path, damaged=True).verify()
        assert problems == [] or (
            scene.operation == "repair" and all(one.segment is not None for one in problems)
        )
    if scene.operation != "repair":
        _check_state(scene, read_versions(path))
    encoder = WordEncoder()
    _rerun(scene, path, encoder)
    assert read_versions(path) == scene.states[-1]
    assert Index.open(path).verify() == []
    committed = {name for (name,) in query(path, "SELECT name FROM segment")}
    assert {entry.name for entry in (path / "segments").iterdir()} == committed
    assert list(path.rglob("*.new*")) == []


def _check_state(scene: Scene, found: list[Version]) -> None:
    assert found in scene.states or (
        # A compaction commits group by group; versions and vectors stay the same.
        scene.operation == "compact" and [one for one in found if one.live] == scene.states[-1]
    )


def _rerun(scene: Scene, path: Path, encoder: WordEncoder) -> None:
    index = Index.open(path, encoder=encoder, damaged=True)
    match scene.operation:
        case "index":
            n_committed = 8 * scene.states.index(read_versions(path))
            index.add(corpus())
            # What was committed is not encoded again, and a new label needs no encoding.
            left = [row for row in corpus()[n_committed:] if row.get("label") != "z"]
            assert encoder.encoded == [row["text"] for row in left]
        case "delete":
            there = {document.id for document in index.documents()}
            index.delete(*(one for one in DELETED if one in there))
        case "migrate":
            index.add([])  # any next writer removes what is left
        case "compact":
            index.compact()
        case "repair":
            index.repair(index.verify())


def test_writer_killed_at_any_step_loses_and_doubles_nothing(
    scene: Scene, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    by_name: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(scene.steps):
        by_name[name].append(at)
    chosen = {at for places in by_name.values() for at in _spread(places, 2)}
    left = [at for at in range(len(scene.steps)) if at not in chosen]
    n_more = max(0, pytestconfig.getoption("--kills") // len(OPERATIONS) - len(chosen))
    chosen |= set(random.Random(0).sample(left, min(n_more, len(left))))
    for at in sorted(chosen):
        code, _ = _run(scene, tmp_path, die_at=at)
        assert code == -signal.SIGKILL
        try:
            _check(scene, tmp_path / "killed")
        except Exception as error:
            error.add_note(f"killed before step {at} of {scene.operation}: {scene.steps[at]}")
            raise


def test_writer_killed_at_any_moment_loses_and_doubles_nothing(
    scene: Scene, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    moments, n_killed = random.Random(1), 0
    n_wanted = pytestconfig.getoption("--kills") // len(OPERATIONS)
    for _ in range(4 * n_wanted):
        code, _ = _run(scene, tmp_path, die_at=None, wait_s=moments.uniform(0, scene.seconds))
        n_killed += code == -signal.SIGKILL
        _check(scene, tmp_path / "killed")
        if n_killed == n_wanted:
            return
    pytest.fail(f"only {n_killed} of {n_wanted} children died in mid-run")


def test_a_commit_before_the_rename_would_be_noticed(scene: Scene, tmp_path: Path) -> None:
    if scene.operation != "index":
        pytest.skip("one operation is enough")
    _, names = _run(scene, tmp_path, die_at=None, broken=True)
    steps = json.loads(names.read_text(encoding="utf-8"))
    late = steps.index("rename")
    assert steps.index("COMMIT") < late
    code, _ = _run(scene, tmp_path, die_at=late, broken=True)
    assert code == -signal.SIGKILL
    with pytest.raises(AssertionError):
        _check(scene, tmp_path / "killed")


def _spread(places: list[int], n: int) -> list[int]:
    """Return at most n of the places, the first and the last among them."""
    if len(places) <= n:
        return places
    return [places[round(i * (len(places) - 1) / (n - 1))] for i in range(n)]
