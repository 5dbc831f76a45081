"""Counting every durable step of a writer, and dying at one of them; runs in a child process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from layerdex import Index
from layerdex.errors import LayerdexError
from layerdex.index import approximates
from layerdex.indexer.pipeline.build import build
from layerdex.indexer.readers.sources import read_all
from layerdex.storage import writer
from layerdex.storage.store import Store
from layerdex.storage.writer import Writer
from tests.encoders import ConcurrentWordEncoder, WordEncoder
from tests.storage.corpora import Row, rows
from tests.storage.next_schema import installed

OPERATIONS = (
    "index",
    "delete",
    "purge",
    "compact",
    "merge",
    "repair",
    "transform",
    "accelerate",
    "migrate",
)
DELETED = ("old3", "d4", "d5")
NEW_SHRINKAGE = 0.7
NEW_RECALL = 0.6
TENTH: list[Row] = [{"id": "tenth", "text": "with this there are ten segments"}]


def corpus() -> list[Row]:
    """Explicit ids, derived ids, repeats and updates, over four windows of 8."""
    unnamed: list[Row] = [{"text": "the same text again"} for _ in range(5)]
    changed: list[Row] = [
        {"id": "old1", "text": "a new text"},
        {"id": "old2", "text": "old text 2", "label": "z"},
    ]
    return [*rows(6), *unnamed, *changed, *rows(14, start=6)]


def operate(
    operation: str, path: Path, *, encoder: type[WordEncoder] = ConcurrentWordEncoder
) -> None:
    """Do the whole of an operation on the index at ``path``.

    With a `ConcurrentWordEncoder` windows are prefetched: the steps are the same, but the order of
    a look-up and the commit of the window before may vary.
    """
    if operation == "migrate":
        with installed():
            Store(path)
        return
    index = Index.open(path, encoder=WordEncoder(), damaged=True)
    match operation:
        case "index":
            # Not `Index.add`, which imports torch to compare fingerprints.
            with layers_written_by_threads():
                build(index._open.store, read_all([corpus()]), encoder)
        case "merge":
            build(index._open.store, read_all([TENTH]), WordEncoder)
        case "delete":
            index.delete(*DELETED)
        case "purge":
            index.delete(*DELETED, purge=True)
        case "compact":
            index.compact()
        case "repair":
            index.repair(index.verify())
        case "transform":
            index.fit_transforms(shrinkage=NEW_SHRINKAGE)
        case "accelerate":
            accelerate(index, NEW_RECALL)


def accelerate(index: Index, recall: float) -> None:
    """Build approximate indexes of two layers, although the index is small."""
    least, approximates.N_LEAST = approximates.N_LEAST, 1
    try:
        index.accelerate("2,3", recall=recall)
    finally:
        approximates.N_LEAST = least


@contextmanager
def layers_written_by_threads() -> Iterator[None]:
    """Have commits use threads for a while, as they do for many vectors."""
    before = writer._MIN_BYTES_FOR_THREADS, writer._MAX_THREADS
    writer._MIN_BYTES_FOR_THREADS, writer._MAX_THREADS = 0, 3
    try:
        yield
    finally:
        writer._MIN_BYTES_FOR_THREADS, writer._MAX_THREADS = before


def child(operation: str, path: Path, *, die_at: int | None, names: Path, broken: bool) -> None:
    """Operate, and die before step ``die_at``, or write the steps' names if it is None.

    ``broken`` swaps the commit order, which the tests must detect.
    """
    taken: list[str] = []

    def step(name: str) -> None:
        if len(taken) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        taken.append(name)

    with watched(step):
        if broken:  # with steps in a fixed order: the test looks for one of them
            _break_the_order()
        operate(operation, path, encoder=WordEncoder if broken else ConcurrentWordEncoder)
    _write(names, json.dumps(taken))


def failing_child(operation: str, path: Path, *, fail_at: int, stays: bool, message: Path) -> None:
    """Operate while step ``fail_at`` fails as on a full disk; write the error's message.

    With ``stays`` all later writes fail too. An error that is not a `LayerdexError` ends the child
    with a non-zero exit code.
    """
    n_taken = 0

    def step(name: str) -> None:
        nonlocal n_taken
        n_taken += 1
        is_write = name not in ("unlink", "rmtree", "COMMIT")
        if n_taken == fail_at + 1 or (stays and n_taken > fail_at + 1 and is_write):
            if name.isupper() or " " in name:
                raise sqlite3.OperationalError("database or disk is full")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    try:
        with watched(step):
            operate(operation, path)
    except LayerdexError as error:
        _write(message, str(error))


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:  # which is not watched
        file.write(text)


@contextmanager
def watched(step: Callable[[str], None]) -> Iterator[None]:
    """Call ``step`` before each change of the disk, for a while."""
    functions = [
        (os, "write"),
        (os, "pwrite"),
        (os, "fsync"),
        (Path, "rename"),
        (Path, "replace"),
        (Path, "unlink"),
        (Path, "mkdir"),
        (Path, "write_bytes"),
        (shutil, "rmtree"),
    ]
    real = [(owner, name, getattr(owner, name)) for owner, name in functions]
    for owner, name, function in real:
        setattr(owner, name, _before(function, step, name))

    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        verb, *rest = statement.split()
        if verb in ("INSERT", "UPDATE", "DELETE"):
            table = rest[0] if verb == "UPDATE" else rest[1]
            step(f"{verb} {table}")

    def commit(_: Any) -> None:
        step("COMMIT")

    event.listen(Engine, "before_cursor_execute", execute)
    event.listen(Engine, "commit", commit)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", execute)
        event.remove(Engine, "commit", commit)
        for owner, name, function in real:
            setattr(owner, name, function)


def _before(function: Any, step: Callable[[str], None], name: str) -> Any:
    def stepping(*arguments: Any, **options: Any) -> Any:
        step(name)
        return function(*arguments, **options)

    return stepping


def _break_the_order() -> None:
    """Rename a segment's folder only after the commit."""
    rename, commit = Path.rename, Writer.commit
    waiting: list[tuple[Path, Path]] = []

    def later(path: Path, target: Path) -> Path:
        waiting.append((path, target))
        return target

    def commit_first(self: Writer, *arguments: Any) -> None:
        commit(self, *arguments)
        while waiting:
            rename(*waiting.pop())

    Path.rename, Writer.commit = later, commit_first  # type: ignore[method-assign,assignment]
