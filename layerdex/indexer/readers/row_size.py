"""The largest row that is read, so that a line without an end takes no memory without an end."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator
from typing import BinaryIO

MAX_ROW_BYTES = 256_000_000
"""The default: longer than any real text."""

_LINE_END_BYTES = 2
CHUNK_BYTES = 1 << 16
MOST_UTF8_BYTES = 4


class BoundedLines(io.RawIOBase):
    """A stream of bytes in which a line that is too long is cut, before its end is known.

    Of more than ``max_bytes`` at least one byte more stays, so that it can be told, and one line
    end, so that lines keep their numbers.
    """

    def __init__(self, stream: BinaryIO, max_bytes: int, line_ends: Collection[bytes]) -> None:
        super().__init__()
        self._read = getattr(stream, "read1", stream.read)  # does not wait for what is not needed
        self._n_most = max_bytes + _LINE_END_BYTES
        self._line_ends = line_ends
        self._n_open = 0
        self._waiting = b""
        self._is_after_return = False
        self.is_cut = False
        """Whether the last bytes are of a line that was cut, and no later one was read."""

    def readable(self) -> bool:
        """Return True."""
        return True

    # RawIOBase's own method
    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Read into the buffer; return the number of bytes, 0 at the end."""
        for _ in self.drop():
            pass
        chunk = self._cut(self._take(len(buffer)))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def drop(self) -> Iterator[bytes]:
        """Read to the end of the line that was cut; yield what is left out of it."""
        while self.is_cut and (chunk := self._take(CHUNK_BYTES)):
            first = self._first_end(chunk)
            if first >= 0:
                is_return, rest = chunk[first : first + 1] == b"\r", chunk[first + 1 :]
                self.is_cut, self._is_after_return = False, is_return and not rest
                self._waiting = rest.removeprefix(b"\n") if is_return else rest
                chunk = chunk[:first]
            yield chunk

    def _take(self, n: int) -> bytes:
        """Return at most n of the next bytes, none at the end."""
        if chunk := self._waiting:
            self._waiting = b""
            if len(chunk) > n:
                chunk, self._waiting = chunk[:n], chunk[n:]
            return chunk
        chunk = self._read(n)
        if self._is_after_return and chunk:
            self._is_after_return = False
            return chunk.removeprefix(b"\n") or self._read(n)
        return chunk

    def _cut(self, chunk: bytes) -> bytes:
        """Return a chunk without what follows if the line in which it begins is too long."""
        n_room = max(self._n_most - self._n_open, 0)
        if len(chunk) > n_room:
            first = self._first_end(chunk)
            if first < 0 or first > n_room:
                self._waiting = chunk[n_room:] + self._waiting
                self._n_open, self.is_cut = 0, True
                return chunk[:n_room] + b"\n"
        last = max(chunk.rfind(end) for end in self._line_ends)
        self._n_open = len(chunk) - last - 1 if last >= 0 else self._n_open + len(chunk)
        return chunk

    def _first_end(self, chunk: bytes) -> int:
        found = [at for end in self._line_ends if (at := chunk.find(end)) >= 0]
        return min(found, default=-1)


def bound_lines(
    stream: BinaryIO, max_bytes: int, *, line_ends: Collection[bytes] = (b"\n",)
) -> io.BufferedReader:
    """Return the stream with lines of little more than ``max_bytes``; see `is_long_line`."""
    return io.BufferedReader(BoundedLines(stream, max_bytes, line_ends), CHUNK_BYTES)


def is_long_line(line: bytes, max_bytes: int) -> bool:
    """Return whether a line of `bound_lines` is longer than ``max_bytes``, its end left out."""
    return len(line) > max_bytes and len(line.removesuffix(b"\n").removesuffix(b"\r")) > max_bytes


def is_long_text(text: str, max_bytes: int, *, start: int = 0, end: int | None = None) -> bool:
    """Return whether a text, or a part of it, has more than ``max_bytes`` in UTF-8."""
    n_characters = (len(text) if end is None else end) - start
    if n_characters * MOST_UTF8_BYTES <= max_bytes:
        return False
    if n_characters > max_bytes:
        return True
    return len(text[start:end].encode(errors="surrogatepass")) > max_bytes


def is_long_row(cells: Iterable[object], max_bytes: int) -> bool:
    """Return whether the texts and bytes among the cells of a row are longer than ``max_bytes``."""
    texts = [cell for cell in cells if isinstance(cell, str | bytes)]
    n_characters = sum(map(len, texts))
    if n_characters * MOST_UTF8_BYTES <= max_bytes or n_characters > max_bytes:
        return n_characters > max_bytes
    return sum(len(one.encode() if isinstance(one, str) else one) for one in texts) > max_bytes


def describe_long(max_bytes: int) -> str:
    """Return why a row is rejected that is too long."""
    return f"longer than {describe_bytes(max_bytes)}; --max-row-size allows more"


def describe_bytes(n_bytes: int) -> str:
    """Return a size in the largest unit that has no fraction."""
    for unit, size in (("MB", 10**6), ("MiB", 1 << 20), ("kB", 10**3), ("KiB", 1 << 10)):
        if n_bytes % size == 0 and n_bytes:
            return f"{n_bytes // size:,} {unit}"
    return f"{n_bytes:,} byte{'s' * (n_bytes != 1)}"
