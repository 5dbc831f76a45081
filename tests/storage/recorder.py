"""Recording everything that a process does to the disk below a folder; runs in a child."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from layerdex import Index
from layerdex.forks import abandon
from layerdex.indexer.pipeline.build import build
from layerdex.indexer.readers.sources import read_all
from layerdex.storage.store import Store
from layerdex.storage.writer import Writer
from tests.encoders import WordEncoder
from tests.storage import os_calls, sqlite_calls
from tests.storage.next_schema import installed

REPORT = "report"


@dataclass(frozen=True)
class Event:
    """A step. ``path`` and ``target``, that of a rename, are relative to the folder.

    A ``report`` marks the moment when something is reported as committed.
    """

    step: str
    path: str = ""
    offset: int = 0
    data: bytes = b""
    target: str = ""


class Recorder:
    """Listens to Python's and SQLite's calls, and records those below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.events: list[Event] = []

    def create(self, path: Path) -> None:
        self._note("create", path)

    def write(self, path: Path, offset: int, data: bytes) -> None:
        self._note("write", path, offset=offset, data=data)

    def truncate(self, path: Path, size: int) -> None:
        self._note("truncate", path, offset=size)

    def flush(self, path: Path) -> None:
        self._note("flush", path)

    def mkdir(self, path: Path) -> None:
        self._note("mkdir", path)

    def unlink(self, path: Path) -> None:
        self._note("unlink", path)

    def rename(self, path: Path, target: Path) -> None:
        self._note("rename", path, target=str(_real(target).relative_to(self.root)))

    def report(self) -> None:
        self.events.append(Event(REPORT))

    def _note(self, step: str, path: Path, **details: Any) -> None:
        path = _real(path)
        if path.is_relative_to(self.root):
            self.events.append(Event(step, str(path.relative_to(self.root)), **details))


def _real(path: Path) -> Path:
    """Return an absolute path to what may be named by the descriptor of its folder."""
    return path.parent.resolve() / path.name


def record_life(root: Path, out: Path) -> None:
    """Run through the life of an index at ``root/index``, and pickle the events to ``out``.

    The index is created, filled in two windows, and a document each is deleted, changed and
    relabelled; then it is compacted, and another document is added. Each step is a commit, which is
    reported.
    """
    recorder = _listening(root)
    _report_commits(recorder)
    encoder = WordEncoder(depth=1, window=3)
    index = Index.create(recorder.root / "index", model=encoder)
    recorder.report()
    for rows in LIFE:
        match rows:
            case "compact":
                index.compact()
            case str():
                index.delete(rows)
            case _:
                build(index._open.store, read_all([rows]), lambda: encoder)
    out.write_bytes(pickle.dumps(recorder.events))


def record_life_beside_reader(root: Path, out: Path) -> None:
    """Do as `record_life` while a reader keeps the log from being removed, though not emptied."""
    create = Index.create

    def create_and_read(path: Path, **options: Any) -> Index:
        index = create(path, **options)
        reader = sqlite3.connect(f"file:{path}/catalog.sqlite3?mode=ro", uri=True)
        reader.execute("SELECT * FROM setting").fetchall()
        abandon(reader)
        return index

    Index.create = create_and_read  # type: ignore[assignment,method-assign]
    record_life(root, out)


def record_purge(root: Path, out: Path) -> None:
    """Fill an index at ``root/index``, purge the documents `PURGED`, and report only that."""
    recorder = _listening(root)
    encoder = WordEncoder(depth=1, window=3)
    index = Index.create(recorder.root / "index", model=encoder)
    build(index._open.store, read_all([LIFE[0]]), lambda: encoder)
    index.delete(*PURGED, purge=True)
    recorder.report()
    out.write_bytes(pickle.dumps(recorder.events))


def record_migration(root: Path, out: Path) -> None:
    """Migrate the index at ``root/index`` to the next schema, and pickle the events."""
    recorder = _listening(root)
    with installed():
        Store(recorder.root / "index")
    recorder.report()
    out.write_bytes(pickle.dumps(recorder.events))


def record_fitting(root: Path, out: Path) -> None:
    """Refit the transforms of the index at ``root/index``, remove them, and fit them again.

    `SHRINKAGES` has their shrinkage after each report; None stands for no transforms.
    """
    recorder = _listening(root)
    _report_commits(recorder)
    index = Index.open(recorder.root / "index")
    for shrinkage in SHRINKAGES[1:]:
        if shrinkage is None:
            index.remove_transforms()
        else:
            index.fit_transforms(shrinkage=shrinkage)
    out.write_bytes(pickle.dumps(recorder.events))


def _listening(root: Path) -> Recorder:
    recorder = Recorder(root)
    os_calls.listen(recorder)
    sqlite_calls.listen(recorder)
    return recorder


PURGED = ("d1", "d4")
SHRINKAGES = (0.2, 0.7, None, 0.4)

LIFE: list[Any] = [
    [{"id": f"d{i}", "text": f"text number{i}", "label": "a"} for i in range(6)],
    "d1",
    [{"id": "d2", "text": "another text"}, {"id": "d5", "text": "text number5", "label": "b"}],
    "compact",
    [{"id": "d6", "text": "the last text", "label": "a"}],
]

State = dict[str, tuple[str, str | None]]


def committed_states() -> list[State]:
    """Return text and label by id as `record_life` has committed them, after each report."""
    first = {f"d{i}": (f"text number{i}", "a") for i in range(6)}
    states: list[State] = [{}, {name: first[name] for name in ("d0", "d1", "d2")}, {**first}]
    states.append({name: value for name, value in first.items() if name != "d1"})
    changed = {"d2": ("another text", "a"), "d5": ("text number5", "b")}
    states += [{**states[-1], **changed}] * 2  # a compaction changes no document
    return [*states, {**states[-1], "d6": ("the last text", "a")}]


def _report_commits(recorder: Recorder) -> None:
    change = Writer.change

    @contextmanager
    def reporting(self: Writer) -> Iterator[Connection]:
        with change(self) as connection:
            yield connection
        recorder.report()

    Writer.change = reporting  # type: ignore[method-assign]
