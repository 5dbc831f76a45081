"""How much of each document a table shows, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from layerdex.cli.conflicts import is_given
from layerdex.cli.options.grouping import collect, combine
from layerdex.cli.render.cells import N_LINES, Detail

if TYPE_CHECKING:
    from layerdex.index import Index

DISPLAY = ("lines", "full", "show")
_ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayOptions:
    """How many lines of a text are shown, or all, and which metadata fields."""

    lines: int
    full: bool
    show: tuple[str, ...]

    def resolve(self, index: Index) -> Detail:
        """Return what is shown; raises `OptionError` for a field that no document has."""
        if self.full and is_given("lines"):
            raise click.UsageError("--lines cannot be used with --full")
        n_lines = None if self.full else self.lines
        if not self.show:
            return Detail(n_lines=n_lines, fields=())
        from layerdex.index.checks import find_fields

        return Detail(n_lines=n_lines, fields=find_fields(index, self.show))


display_options = combine(
    click.option(
        "--lines",
        type=click.IntRange(min=1),
        default=N_LINES,
        show_default=True,
        metavar="N",
        help="In the table: show at most N lines of each text.",
    ),
    click.option("--full", is_flag=True, help="In the table: show whole texts."),
    click.option(
        "--show",
        multiple=True,
        metavar="FIELD,...",
        help="In the table: show these metadata fields of each document, or 'all'.",
    ),
    collect(DisplayOptions, "display"),
)
"""The options of a `DisplayOptions`, which the command gets as ``display``."""
