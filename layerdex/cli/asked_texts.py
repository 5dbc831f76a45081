"""The texts that a command is asked about: words of the command line, then those of a file."""

from __future__ import annotations

from collections.abc import Iterable

from layerdex.cli.context import Context

AskedText = tuple[str | None, str]
"""The id of a text, None for none, and the text."""


def read_asked_texts(
    context: Context, words: Iterable[str], file: str | None, *, text_field: str
) -> list[AskedText]:
    """Return the words, without ids, then the texts of a file; say so if the file has none."""
    from layerdex.index.files import read_queries

    asked: list[AskedText] = [(None, word) for word in words]
    if file is not None:
        read = read_queries(file, text_field=text_field)
        if not read:
            context.note(f"{'standard input' if file == '-' else file} has no texts")
        asked += read
    return asked
