"""Rows that were skipped: the first are printed, all are counted, and written if asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from layerdex.cli.render.text import counted
from layerdex.errors import OptionError, StorageError
from layerdex.terminals import json_line

if TYPE_CHECKING:
    from layerdex.records import Rejected

_N_SHOWN = 5


class Rejects:
    """Takes rejected rows as they come, and holds none in memory."""

    def __init__(self, file: TextIO | None, *, note: Callable[[str], None]) -> None:
        self._file = file
        self._note = note
        self._n_rows = 0

    def add(self, row: Rejected) -> None:
        """Print one of the first rows, and write each to the file."""
        from layerdex.index.json import to_json

        self._n_rows += 1
        if self._n_rows <= _N_SHOWN:
            self._note(f"Skipped {row}")
        if self._file is not None:
            with _named_errors(Path(self._file.name)):
                self._file.write(json_line(to_json(row), self._file))
                self._file.flush()

    def summarize(self) -> None:
        """Print how many rows were not printed."""
        if self._n_rows > _N_SHOWN:
            self._note(f"… and {counted(self._n_rows - _N_SHOWN, 'more row')} skipped")


def check_rejects_path(path: Path | None, sources: Sequence[str]) -> None:
    """Raise `OptionError`, before any work, for a file without a folder or that is a source."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise OptionError(f"cannot write {path}: there is no folder {path.absolute().parent}")
    target = path.resolve()
    for source in sources:
        read = Path(source).resolve()
        if source != "-" and (read == target or read in target.parents):
            raise OptionError(f"the rejects cannot be written to {path}: it is read as a source")


@contextmanager
def open_rejects(path: Path | None, *, note: Callable[[str], None]) -> Iterator[Rejects]:
    """Open the file for rejects, if there is to be one."""
    if path is None:
        yield Rejects(None, note=note)
        return
    with _named_errors(path):
        file = path.open("w", encoding="utf-8")
    try:
        yield Rejects(file, note=note)
    finally:
        with _named_errors(path):  # closing tries once more to write what could not be written
            file.close()


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
