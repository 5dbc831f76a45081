"""The three standard streams, whatever the process was started with."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

from layerdex.terminals import escape_unsafe

if TYPE_CHECKING:
    from typing_extensions import Buffer

_STDOUT, _STDERR = 1, 2
_MOVES = re.compile(r"(\r|\x1b\[[0-9]*[AK]|\x1b\[\?25[hl])")
"""How a progress bar is drawn: to the line's start, up, erase, hide and show the cursor."""


def open_streams() -> None:
    """Make all three streams such that a command can print, and a lost result is an error.

    Texts have characters that the locale's encoding may not have, so output is UTF-8. A terminal
    gets no character to obey. Messages that cannot be written are lost, and do not end a command.
    """
    _occupy_closed()
    if sys.stdout is sys.__stdout__:  # not what the caller of `run` has put in its place
        _open_stdout()
    if sys.stderr is sys.__stderr__:
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        sys.stderr = _open(_Messages, _STDERR, _Terminal if is_terminal else io.TextIOWrapper)


def _open_stdout() -> None:
    if sys.stdout is None:
        sys.stdout = _open(_Output, _STDOUT, io.TextIOWrapper)
    elif sys.stdout.isatty():
        sys.stdout = _open(io.FileIO, _STDOUT, _Terminal)
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def open_progress() -> TextIO:
    """Return another stream to standard error, on which a progress bar may move the cursor."""
    return _open(_Messages, _STDERR, _Drawn)


def _occupy_closed() -> None:
    """Put something in place of each closed stream.

    Otherwise the next file to be opened would get its number, and whatever a library prints would
    be written into that file. A socket without a peer can be neither read nor written, also not
    as /dev/stdin or /dev/stdout, as /dev/null could.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            from socket import AF_UNIX, socket

            os.set_inheritable(socket(AF_UNIX).detach(), True)


class _Output(io.FileIO):
    """Standard output where it is closed: that is what an error says."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(errno.EBADF, "standard output is closed") from error


class _Messages(io.FileIO):
    """Standard error: what cannot be written is lost."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data) or len(memoryview(data))
        except OSError:
            return len(memoryview(data))


class _Terminal(io.TextIOWrapper):
    """A stream to a terminal, which gets nothing to obey but colours and line ends."""

    def write(self, text: str, /) -> int:
        super().write(escape_unsafe(text))
        return len(text)


class _Drawn(io.TextIOWrapper):
    """A stream to a terminal on which the cursor may move, too."""

    def write(self, text: str, /) -> int:
        parts = _MOVES.split(text)
        parts[::2] = map(escape_unsafe, parts[::2])
        super().write("".join(parts))
        return len(text)


def _open(raw: type[io.FileIO], number: int, stream: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(raw(number, "w", closefd=False))
    return stream(buffer, "utf-8", "backslashreplace", line_buffering=True)
