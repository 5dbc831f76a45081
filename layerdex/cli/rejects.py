"""Rows that were skipped: the first shown, all of them counted, and written down if asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from layerdex.cli.output import counted, note
from layerdex.errors import OptionError, StorageError

if TYPE_CHECKING:
    from layerdex.records import Rejected

_N_SHOWN = 5


class Rejects:
    """Takes rejected rows as they come; none is kept in memory."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._n_rows = 0

    def add(self, row: Rejected) -> None:
        """Show one of the first rows, and write it down."""
        self._n_rows += 1
        if self._n_rows <= _N_SHOWN:
            note(f"Skipped {row}")
        if self._file is not None:
            entry = {"source": row.origin.source, "line": row.origin.line, "reason": row.reason}
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self._file.flush()

    def summarize(self) -> None:
        """Say how many were not shown."""
        if self._n_rows > _N_SHOWN:
            note(f"… and {counted(self._n_rows - _N_SHOWN, 'more row')} skipped")


def check_rejects_path(path: Path | None, sources: Sequence[str]) -> None:
    """Refuse, before any work, a file that cannot be written or that is itself a source."""
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
def open_rejects(path: Path | None) -> Iterator[Rejects]:
    """Open the file for rejects, if there is to be one."""
    if path is None:
        yield Rejects(None)
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    with file:
        yield Rejects(file)
