"""A writer that kills itself at a named point of its second window; run by ``test_crash``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.indexer.build import build
from layerdex.indexer.corpus.sources import read_all
from layerdex.storage import changes, writer
from layerdex.storage.files import sync_folder
from tests.encoders import WordEncoder
from tests.storage.corpora import Row, rows


def corpus() -> list[Row]:
    """Explicit ids, derived ids, repeats and updates, over four windows."""
    unnamed: list[Row] = [{"text": "the same text again"} for _ in range(5)]
    changed: list[Row] = [{"id": "old1", "text": "a new text"}, {"id": "old2", "label": "z"}]
    changed[1]["text"] = "old text 2"
    return [*rows(6), *unnamed, *changed, *rows(14, start=6)]


def _die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _after(function: Callable[..., Any], *, n_calls: int = 1) -> Callable[..., Any]:
    """Die once ``function`` has done its work for the n-th time."""
    left = n_calls

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        result = function(*arguments, **options)
        left -= 1
        return _die() if left == 0 else result

    return wrapped


def _half_a_file(path: Path, data: Any) -> int:
    path.write_bytes(data.tobytes()[: data.nbytes // 2])
    return int(_die())


def _replace(name: str, function: Callable[..., Any], *, module: str = "writer") -> None:
    # Never undone: this process is about to die.
    pytest.MonkeyPatch().setattr(f"layerdex.storage.{module}.{name}", function)


def arm(point: str) -> None:
    """Prepare the death at ``point``."""
    match point:
        case "half a file":
            _replace("write_file", _half_a_file)
        case "before the rename":
            _replace("sync_folder", _after(sync_folder))
        case "after the rename":
            _replace("sync_folder", _after(sync_folder, n_calls=2))
        case "in the transaction":
            _replace("insert_versions", _after(changes.insert_versions))
        case "after the commit":
            _replace("Writer.commit", _after(writer.Writer.commit))
        case "compaction: before its commit":
            _replace("Writer.write_segment", _after(writer.Writer.write_segment))
        case "compaction: after its commit":
            _replace("remove_tree", _die, module="compaction")
        case _:
            raise ValueError(point)


if __name__ == "__main__":
    where, how = sys.argv[1:]
    target = Index.open(where)
    if how.startswith("compaction"):
        arm(how)
        target.compact()
    else:
        # Not `Index.add`, which imports torch to compare fingerprints.
        build(
            target.store,
            read_all([corpus()]),
            WordEncoder,
            on_progress=lambda done, _: arm(how) if done == 8 else None,
        )
