"""What was done to the code in a run, for a line at its end: numbers to quote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

_KEY = "tallies"
_COUNTS = pytest.StashKey[Counter[str]]()
_TIMES = pytest.StashKey[dict[str, float]]()


def tally(config: pytest.Config, what: str, n: int = 1) -> None:
    """Count n more of ``what``."""
    config.stash.setdefault(_COUNTS, Counter())[what] += n


def longest(config: pytest.Config, what: str, seconds: float) -> None:
    """Remember how long ``what`` took, if it never took longer."""
    times = config.stash.setdefault(_TIMES, {})
    times[what] = max(times.get(what, 0.0), seconds)


def hand_over(config: pytest.Config) -> None:
    """Give a worker's counts to the process that ends the run (pytest-xdist)."""
    output: dict[str, object] | None = getattr(config, "workeroutput", None)
    if output is not None:
        counts = config.stash.get(_COUNTS, Counter[str]())
        output[_KEY] = [dict(counts), config.stash.get(_TIMES, dict[str, float]())]


def take_over(config: pytest.Config, output: Mapping[str, Any]) -> None:
    """Add what a worker handed over."""
    counts, times = output.get(_KEY, [{}, {}])
    for what, n in counts.items():
        tally(config, what, n)
    for what, seconds in times.items():
        longest(config, what, seconds)


def summary(config: pytest.Config) -> str:
    """Return all in one line, empty where nothing was counted."""
    facts = [f"{n:,} {what}" for what, n in config.stash.get(_COUNTS, Counter[str]()).items()]
    times = config.stash.get(_TIMES, dict[str, float]())
    facts += [f"{what} {1e3 * seconds:.0f} ms" for what, seconds in times.items()]
    return ", ".join(facts)
