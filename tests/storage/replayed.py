"""Replaying a record of disk events up to each of them, and judging what a power loss leaves."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.storage.lost_power import Disk, digest, lay_out, losses
from tests.storage.recorder import REPORT, Event
from tests.storage.scenes import CONTEXT

_CATALOG = "index/catalog.sqlite3"


class Judge(Protocol):
    """Raises an error if anything is wrong with an index; thorough is slow."""

    def __call__(self, path: Path, n_reports: int, *, is_thorough: bool) -> None: ...


class LossError(AssertionError):
    """A reported commit is gone, or what is left cannot be used."""


def record(record: Callable[[Path, Path], None], root: Path) -> list[Event]:
    """Return the events of a child below ``root``."""
    out = root.with_name("events.pickle")
    process = CONTEXT.Process(target=record, args=(root, out))
    process.start()
    process.join()
    assert process.exitcode == 0
    events: list[Event] = pickle.loads(out.read_bytes())
    return events


def effort(config: pytest.Config) -> dict[str, Any]:
    """Return the options of `replay`: thorough ones for a soak."""
    if config.getoption("--sequences") > 1_000:
        return {"seeds": range(3), "n_apart": 1}
    return {"seeds": range(1), "n_apart": 20}


def replay(
    disk: Disk,
    events: list[Event],
    folder: Path,
    judge: Judge,
    *,
    seeds: range,
    n_apart: int,
    start: int = 0,
) -> int:
    """Judge each state that a power loss can leave, once; return the number of states."""
    root, n_reports = folder / "after", 0
    seen: set[tuple[bytes, int]] = set()
    for at, event in enumerate(events):
        n_reports += event.step == REPORT
        disk.apply(event)
        for loss in losses(seeds) if at >= start else ():
            contents = disk.after(loss)
            if _CATALOG not in contents:  # then only names can be in the way of making it again
                contents = {name: data and b"" for name, data in contents.items()}
            key = (digest(contents), n_reports)
            if key in seen:
                continue
            seen.add(key)
            # A rollback journal is undone by any program that may write, and `judge` does so.
            is_special = _CATALOG not in contents or _CATALOG + "-journal" in contents
            shutil.rmtree(root, ignore_errors=True)
            lay_out(contents, root)
            try:
                judge(
                    root / "index",
                    n_reports,
                    is_thorough=is_special or len(seen) % n_apart == 0,
                )
            except Exception as error:
                raise LossError(
                    f"power lost after event {at} of {len(events)} ({event.step} {event.path}), "
                    f"{loss.name}, {n_reports} reports before"
                ) from error
    return len(seen)
