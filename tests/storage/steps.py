"""Every durable step of a writer, counted, and death at one of them; run in a child process."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from layerdex import Index
from layerdex.indexer.build import build
from layerdex.indexer.corpus.sources import read_all
from layerdex.storage.migration import migrate_if_older
from layerdex.storage.writer import Writer
from tests.encoders import WordEncoder
from tests.storage.corpora import Row, rows

OPERATIONS = ("index", "delete", "compact", "repair", "migrate")
DELETED = ("old3", "d4", "d5")


def corpus() -> list[Row]:
    """Explicit ids, derived ids, repeats and updates, over four windows of 8."""
    unnamed: list[Row] = [{"text": "the same text again"} for _ in range(5)]
    changed: list[Row] = [
        {"id": "old1", "text": "a new text"},
        {"id": "old2", "text": "old text 2", "label": "z"},
    ]
    return [*rows(6), *unnamed, *changed, *rows(14, start=6)]


def operate(operation: str, path: Path) -> None:
    """Do the whole of an operation on the index at ``path``."""
    if operation == "migrate":
        migrate_if_older(path)
        return
    index = Index.open(path, encoder=WordEncoder(), damaged=True)
    match operation:
        case "index":
            # Not `Index.add`, which imports torch to compare fingerprints.
            build(index.store, read_all([corpus()]), WordEncoder)
        case "delete":
            index.delete(*DELETED)
        case "compact":
            index.compact()
        case "repair":
            index.repair(index.verify())


def child(operation: str, path: Path, *, die_at: int | None, names: Path, broken: bool) -> None:
    """Operate, and die before step ``die_at``; left out, write the steps' names instead.

    ``broken`` swaps the commit order, which the tests must notice.
    """
    taken: list[str] = []

    def step(name: str) -> None:
        if len(taken) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        taken.append(name)

    _watch(step)
    if broken:
        _break_the_order()
    operate(operation, path)
    names.write_text(json.dumps(taken), encoding="utf-8")


def _watch(step: Callable[[str], None]) -> None:
    """Call ``step`` before everything that changes what is on disk."""
    for owner, name in [
        (os, "write"),
        (os, "fsync"),
        (Path, "rename"),
        (Path, "replace"),
        (Path, "unlink"),
        (Path, "mkdir"),
        (Path, "write_bytes"),
        (shutil, "rmtree"),
    ]:
        setattr(owner, name, _before(getattr(owner, name), step, name))

    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        verb, *rest = statement.split()
        if verb in ("INSERT", "UPDATE", "DELETE"):
            table = rest[0] if verb == "UPDATE" else rest[1]
            step(f"{verb} {table}")

    event.listen(Engine, "before_cursor_execute", execute)
    event.listen(Engine, "commit", lambda _: step("COMMIT"))


def _before(function: Any, step: Callable[[str], None], name: str) -> Any:
    def stepping(*arguments: Any, **options: Any) -> Any:
        step(name)
        return function(*arguments, **options)

    return stepping


def _break_the_order() -> None:
    """Let a segment's folder get its name only after the commit."""
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
