"""Cells of tables: texts wrapped to a number of lines, names shown whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerdex.cli.render.text import one_line, paragraphs, shorten

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.measure import Measurement
    from rich.text import Text

N_LINES = 2
_LEAST_WIDTH = 16  # in fewer columns, words are broken too often


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of a document is shown: so many lines of a text, None for all; which fields."""

    n_lines: int | None = N_LINES
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A text as it is, wrapped to at most ``n_lines`` lines, which begin below its first word.

    ``prefix`` stands before the first line and is never cut.
    """

    text: str
    n_lines: int | None = None
    prefix: str = ""
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.cells import cell_len
        from rich.text import Text

        indent = cell_len(self.prefix)
        width = max(1, options.max_width - indent)
        lines = Text(self._shown(width)).wrap(console, width, overflow="fold")
        kept = lines[: self.n_lines]
        if len(kept) < len(lines):
            kept[-1].rstrip()
            kept[-1].truncate(width - 1)
            kept[-1].rstrip()
            kept[-1].append("…")
        for i, line in enumerate(kept):
            line.rstrip()
            start = " " * indent if i else self.prefix
            yield Text(start, style=self.style, no_wrap=True).append(line.plain)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.cells import cell_len
        from rich.measure import Measurement

        width = cell_len(self.prefix)
        width += max(map(cell_len, self._shown(options.max_width).split("\n")))
        return Measurement(min(width, _LEAST_WIDTH), width).with_maximum(options.max_width)

    def _shown(self, width: int) -> str:
        """Return what may be shown of the text; some characters take no column."""
        if self.n_lines is None:
            return paragraphs(self.text)
        return one_line(self.text, 4 * self.n_lines * width)


@dataclass(frozen=True, slots=True)
class Name:
    """A name on one line behind ``prefix``, cut in its middle where it must be."""

    text: str
    prefix: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.cells import cell_len
        from rich.text import Text

        width = options.max_width - cell_len(self.prefix)
        yield Text(self.prefix + shorten(one_line(self.text), max(1, width)), no_wrap=True)


def make_name(name: str, label: str | None = None) -> Text:
    """Return a name, and a label behind it, both safe and whole, wrapped where they must."""
    from rich.text import Text

    text = Text(one_line(name), style="bold", overflow="fold")
    return text if label is None else text.append(f" · {one_line(label)}", "not bold")


def stack(*parts: RenderableType) -> Group:
    """Return a cell of parts below each other."""
    from rich.console import Group

    return Group(*parts)
