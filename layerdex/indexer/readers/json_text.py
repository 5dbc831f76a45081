"""A JSON text that is read value by value, with line numbers.

ijson is three times as fast, but takes the last of two equal keys, replaces lone surrogates, names
no line in its errors, cannot reject a single element, and needs gigabytes for deep nesting.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import BinaryIO

from layerdex.errors import SourceError
from layerdex.indexer.readers.row_size import MAX_ROW_BYTES, is_long_text
from layerdex.indexer.readers.streams import CHUNK_BYTES
from layerdex.indexer.readers.strict_json import StrictDecoder, describe

BLANKS = " \t\r\n"
LOOKAHEAD = 16
"""Characters that must follow a value or an error before it counts, as a chunk may end inside a
number, ``-Infinity`` or a pair of ``\\uXXXX`` escapes (12 characters, the longest)."""


_IN_STRING = re.compile(r'["\\]')
_BEYOND_STRINGS = re.compile(r'["\[\]{},]')


class LongValueError(ValueError):
    """A value of more bytes than are allowed, of which nothing is consumed."""


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

    def take(self, decoder: StrictDecoder, *, max_bytes: int = MAX_ROW_BYTES) -> object:
        """Consume and return the next value, reading more until it is complete.

        Raises `SourceError` for broken JSON, and `LongValueError` for a longer value.
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
                    if is_long_text(self._text, max_bytes, start=self._start, end=end):
                        raise LongValueError
                    self.skip(end - self._start)
                    return value
            n_left = max_bytes + LOOKAHEAD - len(self._text) + self._start
            if n_left <= 0:
                raise LongValueError
            self._grow(n_left)

    def skip_value(self) -> None:
        """Consume the next value without holding it; only its quotes and brackets are looked at.

        Raises `SourceError` where the text ends within it.
        """
        depth, is_string, position = 0, False, self._start
        while True:
            text, mark = self._text, (_IN_STRING if is_string else _BEYOND_STRINGS)
            found = mark.search(text, position)
            is_escape = found is not None and found[0] == "\\"
            if found is None or (is_escape and found.end() == len(text)):
                self.skip((len(text) if found is None else found.start()) - self._start)
                if self._ended:
                    raise self.error("broken JSON: the text ends within a value")
                self._grow()
                position = self._start
                continue
            position = found.end() + is_escape
            if found[0] == '"':
                is_string = not is_string
            elif found[0] in "[{":
                depth += 1
            elif found[0] in "]},":
                if depth == 0:
                    self.skip(found.start() - self._start)
                    return
                depth -= found[0] != ","
            if depth == 0 and not is_string and found[0] in '"]}':
                self.skip(position - self._start)
                return

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

    def _grow(self, n_most: int = CHUNK_BYTES) -> None:
        """Read on: as many bytes as are held, within ``n_most``, but at least a chunk."""
        rest = self._text[self._start :]
        # Doubling keeps the repeated parsing of a long element linear in its length.
        data = self._stream.read(max(CHUNK_BYTES, min(len(rest), n_most)))
        self._ended = not data
        try:
            self._text, self._start = rest + self._decoder.decode(data, final=not data), 0
        except UnicodeDecodeError as error:
            valid = error.object[: error.start].count(b"\n")
            line = self.line + rest.count("\n") + valid
            raise SourceError(f"{self._source}:{line}: invalid UTF-8") from None
