"""The texts that a command is asked about: words of the command line, then those of a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from layerdex.cli.conflicts import Requires
from layerdex.cli.context import Context
from layerdex.cli.options import FORMAT_OPTIONS, InputOptions

if TYPE_CHECKING:
    from layerdex.index import Index

INPUT_RULES = tuple(Requires(option, "input_") for option in ("text_field", *FORMAT_OPTIONS))
"""How a file is read matters only where there is one."""

_N_WORDS_SHOWN = 6

AskedText = tuple[str | None, str]
"""The id of a text, None for none, and the text."""


def read_asked_texts(
    context: Context, index: Index, words: Iterable[str], source: InputOptions
) -> list[AskedText]:
    """Return the words, without ids, then the texts of a file; say so if the file has none.

    Several words that are single ones may be a text without its quotes. They are several texts all
    the same, as scripts rely on, but a note says so.
    """
    words = list(words)
    if len(words) > 1 and all(len(word.split()) == 1 for word in words):
        context.note(
            f"Each of the {len(words)} words is a text of its own: quote them to ask about one, "
            f"{' '.join(words[:_N_WORDS_SHOWN])!r}"
        )
    asked: list[AskedText] = [(None, word) for word in words]
    if (file := source.input_) is not None:
        from layerdex.index.checks import source_names

        read = source.read(source_names(index)["text"])
        if not read:
            context.note(f"{'standard input' if file == '-' else file} has no texts")
        asked += read
    return asked
