"""What all commands share in one run: verbosity, output form, runtime options, open indexes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.progress import OnBytes, is_terminal, show_progress, show_reading_progress
from layerdex.cli.render.text import escape
from layerdex.options import EncoderOptions, RuntimeOptions

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.records import OnProgress


class OutputForm(StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


class _Log(logging.Formatter):
    """One line per message, safe to print."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        return escape(super().formatMessage(record))


class Context:
    """The state of one run; options of `layerdex.cli.options` fill it, commands read it."""

    def __init__(self) -> None:
        self.is_quiet = False
        self.is_verbose = False
        self.form = OutputForm.TABLE
        self.runtime = RuntimeOptions()
        self.model_folder: str | None = None
        self.adapter_folder: str | None = None
        self.calibration_file: str | None = None
        if logging.lastResort is not None:  # prints warnings where no log was asked for
            logging.lastResort.setFormatter(_Log())

    def set_form(self, form: OutputForm) -> None:
        """Choose the output form; raises `click.UsageError` for a second one."""
        if self.form is not OutputForm.TABLE:
            raise click.UsageError("--json and --jsonl cannot be used together")
        self.form = form

    def set_runtime(self, name: str, value: Any) -> None:
        """Set one of the runtime options."""
        self.runtime = replace(self.runtime, **{name: value})

    def show_log(self) -> None:
        """Print the library's log to stderr, and lists in full."""
        self.is_verbose = True
        handler = logging.StreamHandler()
        handler.setFormatter(_Log("%(name)s: %(message)s"))
        logging.basicConfig(handlers=[handler])
        logging.getLogger("layerdex").setLevel(logging.INFO)

    def note(self, message: str) -> None:
        """Print a message to stderr, unless the user asked for quiet."""
        if not self.is_quiet:
            click.echo(escape(message), err=True)

    def note_damage(self, index: Index) -> None:
        """Print what is damaged in an index that was opened in spite of damage."""
        from layerdex.index.checks import find_damage

        if damage := find_damage(index):
            self.note(f"Damaged: {damage}")

    def progress(self, description: str) -> AbstractContextManager[OnProgress | None]:
        """Show a progress bar on a terminal; elsewhere, and when quiet, give no callback."""
        return show_progress(description, is_shown=self._shows_progress)

    def reading_progress(
        self, description: str
    ) -> AbstractContextManager[tuple[OnProgress, OnBytes] | tuple[None, None]]:
        """Show a progress bar of the bytes read and a count of rows; see `progress`."""
        return show_reading_progress(description, is_shown=self._shows_progress)

    @property
    def _shows_progress(self) -> bool:
        return not self.is_quiet and is_terminal()

    @property
    def can_ask(self) -> bool:
        """Say whether somebody can answer a question: at a terminal, and not asked for quiet."""
        is_table = self.form is OutputForm.TABLE
        return is_table and self._shows_progress and sys.stdin is not None and sys.stdin.isatty()

    def open_index(self, path: Path, *, damaged: bool = False) -> Index:
        """Open the index of the command."""
        from layerdex.index import Index

        return Index.open(
            path,
            model=self.model_folder,
            adapter=self.adapter_folder,
            calibration=self.calibration_file,
            runtime=self.runtime,
            damaged=damaged,
        )

    def open_second_index(self, path: Path) -> Index:
        """Open an index to compare with, whose model and adapter lie where it says."""
        from layerdex.index import Index

        return Index.open(path, runtime=self.runtime)

    def create_index(self, path: Path, encoder: EncoderOptions, **stored: Any) -> Index:
        """Create an index, with a progress bar while its model is loaded.

        ``stored`` are the other arguments of `Index.create` that an index stores.
        """
        from layerdex.index import Index

        with self.progress("Loading the model"):
            return Index.create(path, model=encoder, runtime=self.runtime, **stored)

    def print(
        self,
        *,
        table: Callable[[], None],
        document: Callable[[], Any],
        lines: Callable[[], Iterable[Any]] | None = None,
    ) -> None:
        """Print a result in the form that the user chose.

        ``document`` returns the JSON document, ``lines`` the objects of JSON lines.
        """
        match self.form:
            case OutputForm.JSON:
                print_json(document())
            case OutputForm.JSONL if lines is not None:
                print_json_lines(lines())
            case _:
                table()


pass_context = click.make_pass_decorator(Context, ensure=True)


def print_json(document: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def print_json_lines(values: Iterable[Any]) -> None:
    """Print one JSON object per line."""
    for value in values:
        click.echo(json.dumps(value, ensure_ascii=False))
