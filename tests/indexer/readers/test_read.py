"""Standard input, pipes and errors while reading."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers import check_sources, read_source
from tests.indexer.readers.sources import documents


class Failing(io.BytesIO):
    """A stream whose disk fails after its content."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data


@pytest.mark.parametrize(
    ("format_", "data"),
    [
        (Format.JSONL, b'{"text": "a"}\n{"text": "b"}'),
        (Format.JSON, b'[{"text": "a"}, {"text": "b"}]'),
        (Format.CSV, b"text\na\nb\n"),
        (Format.TSV, b"text\tn\na\t1\nb\t2\n"),
        (Format.TXT, b"a\nb"),
        (Format.AUTO, b"a\nb\n"),
        (Format.AUTO, b'\n[\n {"text": "a"},\n {"text": "b"}\n]'),
        (Format.AUTO, b'\xef\xbb\xbf {"text": "a"}\n{"text": "b"}'),
    ],
)
def test_standard_input_is_read_and_left_open(format_: Format, data: bytes) -> None:
    stdin = io.BytesIO(data)
    readings = documents(list(read_source("-", format=format_, stdin=stdin)))
    assert [one.text for one in readings] == ["a", "b"]
    assert {one.origin.source for one in readings} == {"<stdin>"}
    assert not stdin.closed


def test_guessing_loses_no_lines() -> None:
    blank = b"\n" * 200_000
    (document,) = read_source("-", stdin=io.BytesIO(blank + b'{"text": "a"}'))
    assert document.origin.line == 200_001
    readings = list(read_source("-", stdin=io.BytesIO(blank + b"a")))
    assert len(readings) == 200_001
    assert list(read_source("-", stdin=io.BytesIO())) == []


@pytest.mark.parametrize("line", ["[INFO] it runs", "[] to do", "[1, 2]", "[", "a [{"])
def test_a_line_of_text_may_begin_with_a_bracket(line: str) -> None:
    (document,) = documents(list(read_source("-", stdin=io.BytesIO(line.encode()))))
    assert document.text == line


def test_an_empty_array_is_no_text() -> None:
    assert list(read_source("-", stdin=io.BytesIO(b" [\n ]\n"))) == []


def test_a_closed_standard_input_is_a_source_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # what Python makes of a closed descriptor
    for read in (lambda: check_sources(["-"]), lambda: list(read_source("-"))):
        with pytest.raises(SourceError, match="cannot read <stdin>: it is closed"):
            read()


def test_named_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b'{"text": "a"}\n',))
    writer.start()
    readings = documents(list(read_source(path)))
    writer.join()
    assert [one.text for one in readings] == ["a"]


@pytest.mark.parametrize("format_", [Format.JSONL, Format.JSON, Format.CSV, Format.TXT])
def test_failing_disk_is_a_source_error(format_: Format) -> None:
    data = b'[{"text": "a"},' if format_ is Format.JSON else b'"text"\n'
    with pytest.raises(SourceError, match="cannot read <stdin>: input/output error"):
        list(read_source("-", format=format_, stdin=Failing(data)))


def test_file_is_closed_when_reading_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\nb\n")
    opened: list[io.BufferedReader] = []
    open_: Callable[..., io.BufferedReader] = Path.open

    def remember(path: Path, mode: str) -> io.BufferedReader:
        opened.append(open_(path, mode))
        return opened[-1]

    monkeypatch.setattr(Path, "open", remember)
    readings = read_source(path)
    next(readings)
    assert [file.closed for file in opened] == [False]
    readings.close()  # type: ignore[attr-defined]
    assert [file.closed for file in opened] == [True]
