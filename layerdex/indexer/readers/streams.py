"""Byte streams of files and standard input; errors name the source."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from layerdex.errors import SourceError
from layerdex.indexer.readers.dialect import UTF_8
from layerdex.indexer.readers.encoding import (
    ADVICE,
    MARK_BYTES,
    Recoded,
    check_utf8,
    recognise_encoding,
)

OnBytes = Callable[[int], None]
"""Takes the number of bytes of each read."""

STDIN = "-"
CHUNK_BYTES = 1 << 16
MAX_BLANK_BYTES = 1 << 20
_WORKBOOK = "is a zip or Excel file, not text; read a spreadsheet's file with --format xlsx"
NOT_TEXT = {
    b"PK\x03\x04": _WORKBOOK,
    b"\xd0\xcf\x11\xe0": _WORKBOOK,  # Excel before 2007
    # After the mark comes the first field of a header, a number (Thrift's compact protocol).
    b"PAR1\x15": "is a parquet file, not text; give its path, with --format parquet",
    b"\x1f\x8b": "is compressed by gzip; decompress it",
}
"""How files begin that are no text, and what to do with them."""


class Replay(io.RawIOBase):
    """A stream of bytes already read, followed by the rest of their stream, which stays open."""

    def __init__(self, head: bytes, rest: BinaryIO, on_bytes: OnBytes | None = None) -> None:
        super().__init__()
        self._head = head
        self._read = getattr(rest, "read1", rest.read)
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
            # Not more than a pipe has now: rows that are complete must not wait for others.
            data = self._read(len(buffer))
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
        raise SourceError(f"cannot read {source}: {describe_error(error)}") from error


def describe_error(error: OSError) -> str:
    """Return the system's reason, to stand within a sentence."""
    reason = error.strerror or str(error).partition("\n")[0]
    return f"{reason[:1].lower()}{reason[1:]}"


def process_stdin() -> BinaryIO:
    """Return the process's standard input. Raises `SourceError` if it is closed."""
    if sys.stdin is None:
        raise SourceError(f"cannot read {source_name(STDIN)}: it is closed")
    return sys.stdin.buffer


@contextmanager
def open_stream(
    source: str | Path,
    *,
    stdin: BinaryIO | None = None,
    encoding: str | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[io.BufferedReader]:
    """Open a source as UTF-8, after its byte order mark; standard input stays open at the end.

    ``stdin`` is read for ``-`` (default: the process's). ``encoding`` is that of a text without a
    mark, by default UTF-8 if that is not plainly wrong. Raises `SourceError` if the source cannot
    be opened or read, or is in another encoding.
    """
    name = source_name(source)
    with named_errors(name):
        if is_stdin(source):
            stdin = stdin or process_stdin()
            _wait_for_input(stdin)
            yield _as_utf8(stdin, name, encoding, on_bytes)
        else:
            with Path(source).open("rb") as file:
                yield _as_utf8(file, name, encoding, on_bytes)


def _wait_for_input(stream: BinaryIO) -> None:
    """Let reads wait for a pipe that another process has made non-blocking.

    Python takes one that has nothing yet for one that has ended.
    """
    with suppress(OSError, ValueError):  # a stream without a descriptor
        os.set_blocking(stream.fileno(), True)


def encoding_of(stream: io.BufferedReader, given: str | None) -> str | None:
    """Return the encoding that `open_stream` turned into UTF-8, ``given`` if it did not."""
    return stream.raw.encoding if isinstance(stream.raw, Recoded) else given


def first_window(stream: io.BufferedReader) -> tuple[bytes, bool]:
    """Return the next bytes of a stream, which stay in it, and whether the stream ends there.

    Of what `open_stream` opens these are its first 64 KiB, less a byte order mark.
    """
    window = stream.peek(CHUNK_BYTES)
    return window, len(window) < CHUNK_BYTES - MARK_BYTES


def peek(stream: io.BufferedReader, n: int) -> tuple[bytes, io.BufferedReader]:
    """Return the first n bytes that are not whitespace (or fewer), and the whole stream.

    Raises `ValueError` where they are not among the first `MAX_BLANK_BYTES`.
    """
    head, start = bytearray(), b""
    while len(start) < n and (chunk := stream.read1(CHUNK_BYTES)):
        if len(head) >= MAX_BLANK_BYTES:
            raise ValueError("there is little but blanks")
        head += chunk
        start += b"".join(chunk.split())[:n]
    return start[:n], replay(bytes(head), stream)


def replay(head: bytes, rest: BinaryIO, on_bytes: OnBytes | None = None) -> io.BufferedReader:
    """Return a buffered stream of bytes already read and the rest; ``on_bytes`` counts the rest."""
    return io.BufferedReader(Replay(head, rest, on_bytes), CHUNK_BYTES)


def invalid_utf8(error: UnicodeDecodeError) -> str:
    """Return a reason with the position of the invalid byte, from 1."""
    return f"invalid UTF-8 at byte {error.start + 1}; {ADVICE}"


def _as_utf8(
    stream: BinaryIO, name: str, encoding: str | None, on_bytes: OnBytes | None
) -> io.BufferedReader:
    head = stream.read(CHUNK_BYTES)
    if on_bytes is not None:
        on_bytes(len(head))
    for start, reason in NOT_TEXT.items():
        if head.startswith(start):
            raise SourceError(f"{name}: {reason}")
    found, n_mark = recognise_encoding(head, source=name, given=encoding)
    content = replay(head[n_mark:], stream, on_bytes)
    if found != UTF_8:
        recoded = Recoded(content, found, name, is_marked=n_mark > 0)
        return io.BufferedReader(recoded, CHUNK_BYTES)
    if encoding != UTF_8:
        check_utf8(head[n_mark:], source=name, is_whole=len(head) < CHUNK_BYTES)
    return content
