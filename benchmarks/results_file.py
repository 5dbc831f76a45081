"""Result files, with the hardware and the versions that were measured."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
_PACKAGES = (
    "torch",
    "transformers",
    "openvino",
    "nncf",
    "sentence-transformers",
    "faiss-cpu",
    "sqlalchemy",
    "numpy",
    "scikit-learn",
)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def command_line(module: str) -> str:
    """Return the command of this run; of a path only the last name, as no other machine has it."""
    arguments = (Path(argument).name if "/" in argument else argument for argument in sys.argv[1:])
    return shlex.join(["python", "-m", module, *arguments])


def save(name: str, command: str, results: dict[str, Any]) -> None:
    """Print results and write them to ``results/NAME.json``."""
    record = {"command": command, "machine": _machine(), **results}
    text = json.dumps(record, indent=1)
    print(text)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a machine with a GPU may have faiss-gpu instead
        return "not installed"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
