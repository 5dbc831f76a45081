"""A JSON text that is read value by value, with line numbers.

ijson is three times as fast, but takes the last of two equal keys, replaces lone surrogates, names
no line in its errors, cannot reject a single element, and needs gigabytes for deep nesting.
"""

from __future__ import annotations

import codecs
import json
from typing import BinaryIO

from layerdex.errors import SourceError
from layerdex.indexer.readers.streams import CHUNK_BYTES
from layerdex.indexer.readers.strict_json import StrictDecoder, describe

BLANKS = " \t\r\n"
LOOKAHEAD = 16
"""Characters that must follow a value or an error before it counts, as a chunk may end inside a
number, ``-Infinity`` or a pair of ``\\uXXXX`` escapes (12 characters, the longest)."""


class JsonText:
    """The part of a JSON text that is in memory, and the number of the current line."""

    def __init__(self, stream: BinaryIO, source: str) -> None:
        self.line = 1
        self._stream = stream
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._start = 0
        self._ended = False

    def peek(self) -> str:
        """Skip whitespace; return the next character, empty at the end."""
        while True:
            end = self._start
            while end < len(self._text) and self._text[end] in BLANKS:
                end += 1
            self.skip(end - self._start)
            if end < len(self._text) or self._ended:
                return self._text[end : end + 1]
            self._grow()

    def skip(self, n: int) -> None:
        """Consume n characters."""
        self.line += self._text.count("\n", self._start, self._start + n)
        self._start += n

    def take(self, decoder: StrictDecoder, *, max_characters: int | None = None) -> object:
        """Consume and return the next value, reading more until it is complete.

        Raises `SourceError` for broken JSON, and for a value of more than ``max_characters``.
        """
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._start)
            except json.JSONDecodeError as error:
                if not self._may_be_cut(error):
                    reason = f"broken JSON: {describe(error)}"
                    raise self.error(reason, position=error.pos) from None
            except RecursionError:
                raise self.error("broken JSON: nested too deeply") from None
            else:
                if self._ended or len(self._text) - end >= LOOKAHEAD:
                    self.skip(end - self._start)
                    return value
            if max_characters is not None and len(self._text) - self._start > max_characters:
                raise self.error(
                    f"a table by columns of more than {max_characters >> 20} MB: write one object "
                    "per row (pandas: orient='records', lines=True)"
                )
            self._grow()

    def expect(self, character: str, where: str) -> None:
        """Consume a character; raises `SourceError` if another one follows."""
        if self.peek() != character:
            raise self.error(f"broken JSON: {character!r} expected {where}")
        self.skip(1)

    def error(self, reason: str, *, position: int | None = None) -> SourceError:
        """Return an error with the line of ``position``, by default the next character's."""
        end = self._start if position is None else position
        line = self.line + self._text.count("\n", self._start, end)
        return SourceError(f"{self._source}:{line}: {reason}")

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        is_near_end = len(self._text) - error.pos < LOOKAHEAD
        return not self._ended and (is_near_end or error.msg.startswith("Unterminated string"))

    def _grow(self) -> None:
        rest = self._text[self._start :]
        # Doubling keeps the repeated parsing of a long element linear in its length.
        data = self._stream.read(max(CHUNK_BYTES, len(rest)))
        self._ended = not data
        try:
            self._text, self._start = rest + self._decoder.decode(data, final=not data), 0
        except UnicodeDecodeError as error:
            valid = error.object[: error.start].count(b"\n")
            line = self.line + rest.count("\n") + valid
            raise SourceError(f"{self._source}:{line}: invalid UTF-8") from None
