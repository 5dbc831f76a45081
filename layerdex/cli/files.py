"""Files that commands write: checked before any work, and written whole or not at all."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from layerdex.cli.conflicts import is_given
from layerdex.errors import OptionError
from layerdex.terminals import json_line

force_option = click.option(
    "--force",
    is_flag=True,
    expose_value=False,
    help="Overwrite files; without it, a file that exists and is not empty is an error.",
)
"""For a command that writes files and calls `check_outputs`."""


def check_outputs(index: Path, *paths: Path | None) -> None:
    """Raise `OptionError`, before any work, for a file that must not be written.

    It is inside the index, holds something and ``--force`` was not given, or is named twice.
    """
    named = [path for path in paths if path is not None]
    written = [path.resolve() for path in named]
    for path in written:
        if index.resolve() in path.parents:
            raise OptionError(f"{path} is inside the index: write elsewhere")
    if len(set(written)) < len(written):
        raise OptionError(f"two results cannot be written to one file, {written[0]}")
    for path in named:
        if _holds_something(path) and not is_given("force"):
            raise OptionError(f"{path} exists: choose another name, or overwrite it with --force")


def _holds_something(path: Path) -> bool:
    """Return whether a regular file is not empty; pipes and devices hold nothing."""
    try:
        status = path.stat()
    except OSError:  # reported when it is written
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def write_json_lines(path: Path, values: Iterable[Any]) -> int:
    """Write one JSON object per line, and return how many; raises `StorageError`."""
    from layerdex.index.files import atomic_write

    n_values = 0
    with atomic_write(path) as written, written.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json_line(value, file))
            n_values += 1
    return n_values
