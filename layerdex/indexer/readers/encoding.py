"""The encoding of a source: recognised, and turned into UTF-8."""

from __future__ import annotations

import codecs
import io
import logging
from typing import BinaryIO

from layerdex.errors import SourceError
from layerdex.indexer.readers.dialect import UTF_8

logger = logging.getLogger(__name__)

MARKS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16 LE
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, and the encodings that they decide."""

MARK_BYTES = 4
"""The longest mark."""

MAX_PENDING_BYTES = 1 << 20
"""What a decoder may hold back, as that of utf-7 does up to the end of a run of base64."""

ADVICE = "name another encoding with --encoding, such as cp1252"


class Recoded(io.RawIOBase):
    """A stream in another encoding, as UTF-8; a byte that it does not have is a `SourceError`.

    ``is_marked`` tells that a byte order mark decided the encoding, which no option changes.
    """

    def __init__(self, stream: BinaryIO, encoding: str, source: str, *, is_marked: bool) -> None:
        super().__init__()
        self._stream = stream
        self.encoding = encoding
        self._source = source
        self._advice = "" if is_marked else "; --encoding names another one"
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._data = b""
        self._is_start = True
        self._is_end = False

    def readable(self) -> bool:
        """Return True."""
        return True

    # RawIOBase's own method
    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill the buffer unless the stream ends; return the number of bytes, 0 at the end."""
        parts, n_bytes = [self._data], len(self._data)
        while n_bytes < len(buffer) and not self._is_end:
            parts.append(self._decode(self._stream.read(len(buffer))))
            n_bytes += len(parts[-1])
        data = b"".join(parts)
        self._data = data[len(buffer) :]
        n_read = min(n_bytes, len(buffer))
        buffer[:n_read] = data[:n_read]
        return n_read

    def _decode(self, chunk: bytes) -> bytes:
        self._is_end = not chunk
        try:
            text = self._decoder.decode(chunk, final=self._is_end)
            if self._is_start and text:
                self._is_start = False
                text = text.removeprefix("\ufeff")
            if len(self._decoder.getstate()[0]) > MAX_PENDING_BYTES:
                raise SourceError(f"{self._source}: a run of {self.encoding} without an end")
            return text.encode()
        except UnicodeError as error:
            what = "ends within a character of" if self._is_end else "is not"
            reason = getattr(error, "reason", None) or str(error)
            raise SourceError(
                f"{self._source}: {what} {self.encoding} ({reason}){self._advice}"
            ) from None


def recognise_encoding(head: bytes, *, source: str, given: str | None) -> tuple[str, int]:
    """Return the encoding of the text that begins with ``head``, and the length of its mark.

    A byte order mark decides it; without one it is ``given``, or UTF-8 by default. UTF-16 without
    a mark is recognised by the NUL in each of two first ASCII characters, and logged.
    """
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    if given is not None:
        return given, 0
    is_nul = [byte == 0 for byte in head[:4]]
    for pattern, encoding in (([0, 1] * 2, "utf-16-le"), ([1, 0] * 2, "utf-16-be")):
        if is_nul == pattern:
            logger.warning(
                "%s: read as %s, as its first characters have two bytes; "
                "--encoding names another one",
                source,
                encoding,
            )
            return encoding, 0
    return UTF_8, 0


def check_utf8(head: bytes, *, source: str, is_whole: bool) -> None:
    """Raise `SourceError` where the first lines show that a text is not UTF-8.

    A few broken lines are left to be rejected one by one. Most lines of UTF-8 that are not ASCII
    are whole; so several broken lines that are the most of these mean another encoding, if they are
    ten, or a twentieth of all.
    """
    if head.isascii():
        return
    lines = head.splitlines()
    if not is_whole:
        del lines[-1:]  # it may be cut within a character
    broken = [number for number, line in enumerate(lines, start=1) if not _is_utf8(line)]
    n_beyond_ascii = sum(not line.isascii() for line in lines)
    are_several = len(broken) >= min(10, len(lines) / 20)
    if are_several and len(broken) > max(1, n_beyond_ascii / 2):
        raise SourceError(
            f"{source}:{broken[0]}: invalid UTF-8, as in most lines that are not ASCII; {ADVICE}, "
            "or utf-8 to have such rows rejected one by one"
        )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
