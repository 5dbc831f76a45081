"""Byte streams of files and standard input; errors name the source."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from layerdex.errors import SourceError

OnBytes = Callable[[int], None]
"""Takes the number of bytes of each read."""

STDIN = "-"
CHUNK_BYTES = 1 << 16
WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE[:3])
"""Byte order marks of UTF-16 and UTF-32 (that of UTF-32 LE begins with that of UTF-16 LE)."""


class Replay(io.RawIOBase):
    """A stream of bytes already read, followed by the rest of their stream, which stays open."""

    def __init__(self, head: bytes, rest: BinaryIO, on_bytes: OnBytes | None = None) -> None:
        super().__init__()
        self._head = head
        self._rest = rest
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        """Return True."""
        return True

    # RawIOBase's own method
    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Read into the buffer; return the number of bytes, 0 at the end."""
        if data := self._head[: len(buffer)]:
            self._head = self._head[len(data) :]
        else:
            data = self._rest.read(len(buffer))
            if self._on_bytes is not None:
                self._on_bytes(len(data))
        buffer[: len(data)] = data
        return len(data)


def source_name(source: str | Path) -> str:
    """Return the name of a source for origins and messages; undecodable bytes are escaped."""
    if is_stdin(source):
        return "<stdin>"
    return os.fsencode(source).decode("utf-8", "backslashreplace")


def is_stdin(source: str | Path) -> bool:
    """Return whether a source is standard input."""
    return str(source) == STDIN


@contextmanager
def named_errors(source: str) -> Iterator[None]:
    """Raise errors of the operating system as `SourceError` with the name of the source."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise SourceError(f"cannot read {source}: {reason[:1].lower()}{reason[1:]}") from error


def process_stdin() -> BinaryIO:
    """Return the process's standard input. Raises `SourceError` if it is closed."""
    if sys.stdin is None:
        raise SourceError(f"cannot read {source_name(STDIN)}: it is closed")
    return sys.stdin.buffer


@contextmanager
def open_stream(
    source: str | Path, *, stdin: BinaryIO | None = None, on_bytes: OnBytes | None = None
) -> Iterator[BinaryIO]:
    """Open a source after its byte order mark; standard input stays open at the end.

    ``stdin`` is read for ``-`` (default: the process's). Raises `SourceError` if the source cannot
    be opened or read, or has a mark of UTF-16.
    """
    name = source_name(source)
    with named_errors(name):
        if is_stdin(source):
            yield _after_mark(stdin or process_stdin(), name=name, on_bytes=on_bytes)
        else:
            with Path(source).open("rb") as file:
                yield _after_mark(file, name=name, on_bytes=on_bytes)


def peek(stream: BinaryIO, n: int) -> tuple[bytes, BinaryIO]:
    """Return the first n bytes that are not whitespace (or fewer), and the whole stream."""
    head, start = bytearray(), b""
    while len(start) < n and (chunk := stream.read(CHUNK_BYTES)):
        head += chunk
        start += b"".join(chunk.split())[:n]
    return start[:n], replay(bytes(head), stream)


def replay(head: bytes, rest: BinaryIO, on_bytes: OnBytes | None = None) -> BinaryIO:
    """Return a buffered stream of bytes already read and the rest; ``on_bytes`` counts the rest."""
    return io.BufferedReader(Replay(head, rest, on_bytes), CHUNK_BYTES)


def invalid_utf8(error: UnicodeDecodeError) -> str:
    """Return a reason with the position of the invalid byte, from 1."""
    return f"invalid UTF-8 at byte {error.start + 1}"


def _after_mark(stream: BinaryIO, *, name: str, on_bytes: OnBytes | None) -> BinaryIO:
    head = stream.read(len(codecs.BOM_UTF8))
    if on_bytes is not None:
        on_bytes(len(head))
    if head.startswith(WIDE_MARKS):
        raise SourceError(f"{name}: looks like UTF-16; convert it to UTF-8")
    return replay(head.removeprefix(codecs.BOM_UTF8), stream, on_bytes)
