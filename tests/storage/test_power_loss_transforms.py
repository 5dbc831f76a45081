"""Power loss while transforms are fitted, removed and fitted again; see `test_power_loss`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.storage.artifacts import TRANSFORM
from layerdex.storage.catalog.seal import check_seal
from tests.encoders import WordEncoder
from tests.index.expectations import corpus
from tests.results import hits_by_layer
from tests.storage import sqlite_calls
from tests.storage.lost_power import Disk
from tests.storage.recorder import REPORT, SHRINKAGES, Event, record_fitting
from tests.storage.replayed import LossError, record, replay
from tests.tallies import tally

pytestmark = pytest.mark.skipif(
    sqlite_calls.library() is None, reason="this Python's SQLite hides its VFS"
)


@pytest.fixture(scope="module")
def before(folder: Path) -> Disk:
    index = Index.create(folder / "made", model=WordEncoder(depth=1))
    index.add(corpus(6))
    index.fit_transforms(shrinkage=SHRINKAGES[0])
    no_map = shutil.ignore_patterns("*-shm")
    shutil.copytree(folder / "made", folder / "fitted" / "index", ignore=no_map)
    return Disk(folder / "fitted")


@pytest.fixture(scope="module")
def events(before: Disk, folder: Path) -> list[Event]:
    return record(record_fitting, folder / "fitted")


def test_power_loss_leaves_the_transforms_that_were_reported_or_the_next(
    before: Disk, events: list[Event], folder: Path, pytestconfig: pytest.Config
) -> None:
    assert [event.step for event in events].count(REPORT) == len(SHRINKAGES) - 1
    effort: dict[str, Any] = {"seeds": range(2), "n_apart": 6}
    if pytestconfig.getoption("--soak"):
        effort = {"seeds": range(9), "n_apart": 1}
    n_judged = replay(deepcopy(before), events, folder, _judge, **effort)
    tally(pytestconfig, "states after a power loss", n_judged)
    assert n_judged > 100


@pytest.mark.parametrize(
    "is_lost",
    [
        pytest.param(lambda path: path.endswith(".safetensors"), id="the file"),
        pytest.param(lambda path: path.endswith("/transforms"), id="the folder"),
        pytest.param(lambda path: path == "index", id="the folder's name"),
    ],
)
def test_flush_that_is_left_out_would_be_noticed(
    before: Disk, events: list[Event], folder: Path, is_lost: Callable[[str], bool]
) -> None:
    left = [event for event in events if event.step != "flush" or not is_lost(event.path)]
    assert len(left) < len(events)
    with pytest.raises(LossError):
        replay(deepcopy(before), left, folder, _judge, seeds=range(3), n_apart=20)


def _judge(path: Path, n_reports: int, *, is_thorough: bool) -> None:
    check_seal(path / "catalog.sqlite3")
    index = Index.open(path)
    assert len(index) == 6
    found = index.info().transform
    shrinkage = None if found is None else found["shrinkages"]["1"]
    assert shrinkage in SHRINKAGES[n_reports : n_reports + 2]
    if shrinkage is not None:
        assert (
            len(hits_by_layer(index.search_like("d4", layer="all", transform="whiten", k=2))) == 2
        )
    if is_thorough:
        assert index.verify() == []
        index.delete("d0")  # any next writer removes what is left
        files = [one.name for one in (path / TRANSFORM.folder).glob("*")]
        with index._open.store.read() as snapshot:
            record = snapshot.setting(TRANSFORM.name)
        assert files == ([] if record is None else [record["file"]])
