"""What questions cost by the number of documents: the picture and the table of docs/scale.md.

    python -m benchmarks.scale --n-documents N --whole dedup evaluate    (for several N)
    python -m benchmarks.scale_picture

It reads ``results/scale-N.json``, draws what was measured, and continues each line from the largest
N by what its question costs: a constant part and the documents, or half of all pairs of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.figures import FOLDER
from benchmarks.results_file import FOLDER as RESULTS
from layerdex.cli.render.figures import save_figure
from layerdex.search.plots.figures import color, new_figure

_COMPUTED = (10**6, 10**7, 10**8)
_SHOWN = {
    "search": "one question, warm",
    "search, 57 % by a number": "one question, a filter keeps 57 %",
    "classify": "classify one text, warm",
    "batch of 1,000": "1,000 questions",
    "search --like": "cold process: search --like",
    "info": "cold process: info",
}
_WHOLE = {"dedup": "deduplicate at 0.9", "evaluate": "evaluate one layer, leave-one-out"}

Seconds = dict[int, float]
"""Of a question, by the number of documents."""


def main() -> None:
    """Draw the picture and print the table."""
    measured = read_results()
    draw(measured)
    print_table(measured)


def read_results() -> dict[str, Seconds]:
    """Return the medians of each question, of indexes of random vectors."""
    measured: dict[str, Seconds] = {name: {} for name in (*_SHOWN.values(), *_WHOLE.values())}
    for path in RESULTS.glob("scale-*.json"):
        result: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if result["vectors"] != "random":
            continue
        n = result["documents"]
        for key, name in _SHOWN.items():
            found = result["warm_seconds"].get(key) or result["cold_seconds"][key]
            measured[name][n] = found["median"]
        for key, name in _WHOLE.items():
            if key in result["whole"]:
                measured[name][n] = result["whole"][key]["seconds"]
    return {name: dict(sorted(seconds.items())) for name, seconds in measured.items() if seconds}


def compute(name: str, seconds: Seconds) -> Seconds:
    """Return what a question would take beyond what was measured, from the two largest."""
    if len(seconds) < 2:
        return {}
    (small, low), (large, high) = list(seconds.items())[-2:]
    if name in _WHOLE.values():
        return {n: high * (n / large) ** 2 for n in _COMPUTED if n > large}
    each = max(high - low, 0) / (large - small)
    return {n: high + each * (n - large) for n in _COMPUTED if n > large}


def draw(measured: Mapping[str, Seconds]) -> None:
    """Draw seconds by documents, both on logarithmic axes; dashed is what was computed."""
    figure = new_figure(7, 5)
    axes = figure.add_subplot()
    for i, (name, seconds) in enumerate(measured.items()):
        marker = "s-" if name in _WHOLE.values() else "o-"
        axes.plot(list(seconds), list(seconds.values()), marker, color=color(i), label=name)
        last = list(seconds.items())[-1:]
        beyond = dict(last + list(compute(name, seconds).items()))
        axes.plot(list(beyond), list(beyond.values()), "--", color=color(i), alpha=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("documents")
    axes.set_ylabel("seconds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    save_figure(figure, FOLDER / "scale.svg")


def print_table(measured: Mapping[str, Seconds]) -> None:
    """Print a row for each question, in Markdown; what was computed is in italics."""
    numbers = sorted({n for seconds in measured.values() for n in seconds})
    columns = sorted({*numbers, *_COMPUTED})
    print("| question |", " | ".join(f"{n:,}" for n in columns), "|")
    print("|---|" + "---|" * len(columns))
    for name, seconds in measured.items():
        cells = {n: f"*{_readable(each)}*" for n, each in compute(name, seconds).items()}
        cells |= {n: _readable(each) for n, each in seconds.items()}
        print(f"| {name} |", " | ".join(cells[n] for n in columns), "|")


def _readable(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


if __name__ == "__main__":
    main()
