"""A short run of the fuzzer; ``python -m tests.fuzz.run`` makes a long one."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from layerdex.errors import SourceError
from tests import limited
from tests.fuzz import children, run, samples
from tests.fuzz.children import READERS, Tally
from tests.fuzz.mutate import mutate


def test_no_reader_has_a_find() -> None:
    for reader in READERS:
        report = run.run(reader, count=100)
        assert not report.finds, "\n".join([str(report), *report.finds])
        assert report.executions >= 100
        if reader not in ("jsonl", "txt"):  # of which nearly everything is a source
            assert 0 < report.refused < report.executions


@pytest.mark.parametrize("reader", READERS)
def test_unchanged_samples_are_read(reader: str, tmp_path: Path) -> None:
    kind = reader.removeprefix("layer-")
    given = [children.samples_of(reader)[0]] if kind != reader else children.samples_of(reader)
    path, tally = tmp_path / f"sample.{reader}", Tally()
    for data in given:
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        children.try_once(children.reader_of(reader), path, 0, tally)
    assert tally == Tally(executions=len(given))


def test_a_seed_makes_the_same_change_again() -> None:
    given = samples.documents()["csv"]
    changed = [mutate(given, random.Random(seed)) for seed in range(50)]
    assert changed == [mutate(given, random.Random(seed)) for seed in range(50)]
    assert len(set(changed)) > 40


def _crash(*_: Any) -> None:
    os.abort()


def _hang(*_: Any) -> None:
    time.sleep(600)


def _fail(*_: Any) -> None:
    raise KeyError("a reader's own mistake")


def _swell(*_: Any) -> None:
    bytearray(300 << 20)


def _devour(*_: Any) -> None:
    bytearray(8 << 30)


def _refuse(*_: Any) -> None:
    raise SourceError("a line\nand another")


def _broken(broken: Any, *arguments: Any) -> Tally:
    """Fuzz with a reader that is broken on purpose; runs in a child."""
    children.reader_of = lambda reader: broken  # noqa: ARG005
    return children.fuzz(*arguments)


@pytest.mark.parametrize(
    ("broken", "find"),
    [
        (_crash, "exit code -6"),
        (_hang, "nothing came of it"),
        (_fail, "KeyError"),
        (_swell, "more memory"),
        (_devour, "MemoryError"),
        (_refuse, "several lines"),
    ],
)
def test_what_a_broken_reader_does_is_found(
    broken: Any, find: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = limited.start_limited

    def start_broken(work: Any, *arguments: Any, memory_bytes: int) -> Any:
        assert work is children.fuzz
        return start(_broken, broken, *arguments, memory_bytes=memory_bytes)

    monkeypatch.setattr(limited, "start_limited", start_broken)
    monkeypatch.setattr(run, "HANG_S", 1.5 if broken is _hang else run.HANG_S)
    report = run.run("txt", count=2)
    assert report.executions == 2
    assert report.finds
    assert all(find in one for one in report.finds)
