"""The texts that a command is asked about: words of the command line, then those of a file."""

from __future__ import annotations

from collections.abc import Iterable

from layerdex.cli.conflicts import Requires
from layerdex.cli.context import Context
from layerdex.cli.options import FORMAT_OPTIONS, InputOptions

INPUT_RULES = tuple(Requires(option, "input_") for option in ("text_field", *FORMAT_OPTIONS))
"""How a file is read matters only where there is one."""

AskedText = tuple[str | None, str]
"""The id of a text, None for none, and the text."""


def read_asked_texts(
    context: Context, words: Iterable[str], source: InputOptions
) -> list[AskedText]:
    """Return the words, without ids, then the texts of a file; say so if the file has none."""
    asked: list[AskedText] = [(None, word) for word in words]
    if (file := source.input_) is not None:
        read = source.read()
        if not read:
            context.note(f"{'standard input' if file == '-' else file} has no texts")
        asked += read
    return asked
