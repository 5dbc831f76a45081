"""Text that is safe to print, on one line, with counts written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerdex.terminals import is_joiner
from layerdex.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = [
    "counted",
    "describe_field",
    "describe_unknown",
    "escape",
    "one_line",
    "paragraphs",
    "shorten",
]

_N_LABELS_SHOWN = 5


def escape(text: str, keep: str = "") -> str:
    """Replace characters that control a terminal or end a line, except those in ``keep``.

    Joiners that join stay, as Arabic, Indic scripts and emoji are spelt with them.

    A tab is shown as ``\\t``, since messages on tables are about it.
    """
    text = text if "\t" in keep else text.replace("\t", r"\t")
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep or is_joiner(text, i) else "\ufffd"
        for i, c in enumerate(text)
    )


def one_line(text: str, limit: int = 300) -> str:
    """Return the start of a text on one line, safe to print on a terminal."""
    shown = escape(" ".join(text[: limit * 2].split()))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def paragraphs(text: str) -> str:
    """Return a whole text with its line ends, safe to print on a terminal."""
    return escape("\n".join(text.replace("\t", "    ").splitlines()), keep="\n")


def shorten(text: str, width: int) -> str:
    """Return a name that takes at most ``width`` columns: its start and its end where it is cut."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    start, end = "", ""
    for c in text:
        if cell_len(start + c) > width // 2:
            break
        start += c
    for c in reversed(text):
        if cell_len(c + end) >= width - cell_len(start):
            break
        end = c + end
    while end and cell_len(end[0]) == 0:  # it belongs to a character that was cut
        end = end[1:]
    return f"{start}…{end}"


def describe_unknown(n_unknown: int, n_unreadable: int) -> str:
    """Write how many texts have unknown tokens, and how many of these nothing else."""
    if n_unknown == n_unreadable > 0:
        return f"{counted(n_unknown, 'text')} with nothing but unknown tokens"
    have = "has" if n_unreadable == 1 else "have"
    nothing_else = f"; {n_unreadable:,} of them {have} nothing else" if n_unreadable else ""
    return f"{counted(n_unknown, 'text')} with unknown tokens{nothing_else}"


def describe_field(label_field: str) -> str:
    """Return what titles add where another field than the label was predicted."""
    return "" if label_field == "label" else f" of {one_line(label_field, 30)}"


def describe_labels(labels: Sequence[str]) -> str:
    """Return the first of several labels, and how many more there are."""
    shown = ", ".join(one_line(label, 30) for label in labels[:_N_LABELS_SHOWN])
    n_more = len(labels) - _N_LABELS_SHOWN
    return f"{shown} and {n_more:,} more" if n_more > 0 else shown
