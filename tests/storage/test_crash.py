"""A writer killed by SIGKILL: nothing is lost or duplicated, and a rerun completes the operation.

Each operation runs once undisturbed, which lists its steps: every write, fsync, rename, unlink,
statement and commit. Then children die before chosen steps, and at random moments. ``--kills N``
sets the number of each kind (``make soak`` uses 1,000, which is more than there are steps).
"""

from __future__ import annotations

import json
import math
import random
import signal
from collections import defaultdict
from pathlib import Path

import pytest

from tests.storage.scenes import Scene, check, make_scene, run, run_failing, spread
from tests.storage.steps import OPERATIONS
from tests.tallies import tally

_KILLS = "kills"


@pytest.fixture(scope="module", params=OPERATIONS)
def scene(request: pytest.FixtureRequest, folder: Path) -> Scene:
    """In memory, where that is: a kill loses nothing that was written, flushed or not."""
    (folder / request.param).mkdir()
    return make_scene(request.param, folder / request.param)


def _share(config: pytest.Config) -> int:
    """Return the share of ``--kills`` of each operation."""
    n_kills: int = config.getoption("--kills")
    return math.ceil(n_kills / len(OPERATIONS))


def _choose(scene: Scene, *, n_each: int, n: int) -> list[int]:
    """Choose up to ``n_each`` steps of every name, and others up to n in total.

    One is enough for a statement: SQLite rolls back a transaction wherever it was cut off.
    """
    by_name: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(scene.steps):
        by_name[name].append(at)
    chosen: set[int] = set()
    for name, places in by_name.items():
        chosen.update(spread(places, 1 if " " in name else n_each))
    left = [at for at in range(len(scene.steps)) if at not in chosen]
    chosen |= set(random.Random(0).sample(left, min(max(0, n - len(chosen)), len(left))))
    return sorted(chosen)


@pytest.mark.one_in(2)
def test_writer_killed_at_any_step_loses_and_doubles_nothing(
    scene: Scene, memory_folder: Path, pytestconfig: pytest.Config
) -> None:
    n_kills = _share(pytestconfig)
    for at in _choose(scene, n_each=1 if n_kills < 10 else 4, n=n_kills):
        code, _ = run(scene, memory_folder, die_at=at)
        assert code == -signal.SIGKILL
        tally(pytestconfig, _KILLS)
        try:
            check(scene, memory_folder / "killed")
        except Exception as error:
            error.add_note(f"killed before step {at} of {scene.operation}: {scene.steps[at]}")
            raise


@pytest.mark.one_in(2)
def test_writer_killed_at_any_moment_loses_and_doubles_nothing(
    scene: Scene, memory_folder: Path, pytestconfig: pytest.Config
) -> None:
    moments, n_killed = random.Random(1), 0
    n_wanted = _share(pytestconfig)
    for _ in range(10 * n_wanted):
        wait_s = moments.uniform(0, scene.seconds)
        code, _ = run(scene, memory_folder, die_at=None, wait_s=wait_s)
        if code == -signal.SIGKILL:
            n_killed += 1
            tally(pytestconfig, _KILLS)
        check(scene, memory_folder / "killed")
        if n_killed == n_wanted:
            return
    pytest.fail(f"only {n_killed} of {n_wanted} children died in mid-run")


def test_a_commit_before_the_rename_would_be_noticed(scene: Scene, tmp_path: Path) -> None:
    if scene.operation != "index":
        pytest.skip("one operation is enough")
    _, names = run(scene, tmp_path, die_at=None, broken=True)
    steps = json.loads(names.read_text(encoding="utf-8"))
    late = steps.index("rename")
    assert steps.index("COMMIT") < late
    code, _ = run(scene, tmp_path, die_at=late, broken=True)
    assert code == -signal.SIGKILL
    with pytest.raises(AssertionError):
        check(scene, tmp_path / "killed")


@pytest.mark.one_in(2)
@pytest.mark.parametrize("stays", [False, True])
def test_full_disk_at_any_step_is_one_clear_error_and_loses_nothing(
    scene: Scene, memory_folder: Path, pytestconfig: pytest.Config, stays: bool
) -> None:
    n_faults = _share(pytestconfig)
    if scene.operation == "merge" and n_faults < 10:
        pytest.skip("for the soak: test_small_adds.py fills the disk while merging")
    places = _choose(scene, n_each=1, n=n_faults)
    if n_faults < 10:  # every other one; the next operation, and `stays`, take the others
        places = places[(OPERATIONS.index(scene.operation) + stays) % 2 :: 2]
    for at in places:
        code, message = run_failing(scene, memory_folder, fail_at=at, stays=stays)
        tally(pytestconfig, "full disks")
        try:
            assert code == 0
            assert message.count("\n") == 0
            assert not message or "full" in message or "No space left" in message
            check(scene, memory_folder / "failed")
        except Exception as error:
            error.add_note(f"step {at} of {scene.operation}: {scene.steps[at]}: {message!r}")
            raise
