"""Byte streams of files and standard input, with errors that name the source."""

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
"""Told of each further number of bytes that has been read."""

STDIN = "-"
CHUNK_BYTES = 1 << 16
WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE[:3])
"""What UTF-16 and UTF-32 begin with (the mark of UTF-32 LE begins with that of UTF-16 LE)."""


class Replay(io.RawIOBase):
    """Bytes already read, then the rest of the stream they came from, which stays open."""

    def __init__(self, head: bytes, rest: BinaryIO, on_bytes: OnBytes | None = None) -> None:
        super().__init__()
        self._head = head
        self._rest = rest
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        """Say that this is a stream to read."""
        return True

    # the protocol of RawIOBase
    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill the buffer as far as there are bytes; return how many, 0 at the end."""
        if data := self._head[: len(buffer)]:
            self._head = self._head[len(data) :]
        else:
            data = self._rest.read(len(buffer))
            if self._on_bytes is not None:
                self._on_bytes(len(data))
        buffer[: len(data)] = data
        return len(data)


def source_name(source: str | Path) -> str:
    """Name a source in origins and messages, whatever bytes are in its name."""
    if is_stdin(source):
        return "<stdin>"
    return os.fsencode(source).decode("utf-8", "backslashreplace")


def is_stdin(source: str | Path) -> bool:
    """Return whether a source is standard input."""
    return str(source) == STDIN


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Turn the operating system's refusals into a `SourceError` that names the source."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise SourceError(f"cannot read {source}: {reason[:1].lower()}{reason[1:]}") from error


def process_stdin() -> BinaryIO:
    """Return the process's standard input; raises `SourceError` where it was closed."""
    if sys.stdin is None:
        raise SourceError(f"cannot read {source_name(STDIN)}: it is closed")
    return sys.stdin.buffer


@contextmanager
def open_stream(
    source: str | Path, *, stdin: BinaryIO | None = None, on_bytes: OnBytes | None = None
) -> Iterator[BinaryIO]:
    """Open a source for reading after its byte order mark; standard input is left open.

    ``stdin`` is read for ``-`` (default: the process's). Raises `SourceError` if the source cannot
    be opened or read, or begins like UTF-16.
    """
    name = source_name(source)
    with naming(name):
        if is_stdin(source):
            yield _after_mark(stdin or process_stdin(), name=name, on_bytes=on_bytes)
        else:
            with Path(source).open("rb") as file:
                yield _after_mark(file, name=name, on_bytes=on_bytes)


def opening(stream: BinaryIO, n: int) -> tuple[bytes, BinaryIO]:
    """Return the first n bytes that are not blank (fewer if the stream ends), and it unread."""
    head, found = bytearray(), b""
    while len(found) < n and (chunk := stream.read(CHUNK_BYTES)):
        head += chunk
        found += b"".join(chunk.split())[:n]
    return found[:n], replay(bytes(head), stream)


def replay(head: bytes, rest: BinaryIO, on_bytes: OnBytes | None = None) -> BinaryIO:
    """Return a buffered stream of the bytes already read and the rest, which is counted."""
    return io.BufferedReader(Replay(head, rest, on_bytes), CHUNK_BYTES)


def invalid_utf8(error: UnicodeDecodeError) -> str:
    """Say where decoding failed, counting bytes from 1."""
    return f"invalid UTF-8 at byte {error.start + 1}"


def _after_mark(stream: BinaryIO, *, name: str, on_bytes: OnBytes | None) -> BinaryIO:
    head = stream.read(len(codecs.BOM_UTF8))
    if on_bytes is not None:
        on_bytes(len(head))
    if head.startswith(WIDE_MARKS):
        raise SourceError(f"{name}: looks like UTF-16; convert it to UTF-8")
    return replay(head.removeprefix(codecs.BOM_UTF8), stream, on_bytes)
