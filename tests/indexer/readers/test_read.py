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
from layerdex.indexer.readers import Fields, check_sources, read_source
from tests.indexer.readers.sources import documents


class Failing(io.BytesIO):
    """A stream whose disk fails after its content."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(size)


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
    (document,) = documents(list(read_source("-", stdin=io.BytesIO(blank + b"a"))))
    assert document.origin.line == 200_001
    assert list(read_source("-", stdin=io.BytesIO())) == []


@pytest.mark.parametrize("line", ["[INFO] it runs", "[] to do", "[1, 2]", "[", "a [{"])
def test_a_line_of_text_may_begin_with_a_bracket(line: str) -> None:
    (document,) = documents(list(read_source("-", stdin=io.BytesIO(line.encode()))))
    assert document.text == line


@pytest.mark.parametrize(
    ("data", "format_"),
    [
        (b'id,text\n1,"a, b"\n', "csv"),
        (b'id;text;n\n1;"a, b";x\n', "csv"),
        (b"\n text , id \na,1\n", "csv"),
        (b"id\ttext\n1\ta\n", "tsv"),
        (b"text\na\n", "csv"),
        (b"sep=;\r\nid;text\r\n1;a\r\n", "csv"),
        ("id\ttext\r\n1\ta\r\n".encode("utf-16"), "tsv"),
    ],
)
def test_standard_input_with_a_header_is_a_table(
    data: bytes, format_: str, caplog: pytest.LogCaptureFixture
) -> None:
    readings = documents(list(read_source("-", stdin=io.BytesIO(data))))
    assert [one.text.split(",")[0] for one in readings] == ["a"]
    assert caplog.messages[0] == (
        f"<stdin>: read as {format_}, as its first line is a header; --format txt reads lines"
    )


@pytest.mark.parametrize(
    ("first_line", "format_"),
    [(b"id,Review", "csv"), (b"label\tsentence", "tsv"), (b"Title;Body;Year", "csv")],
)
def test_a_header_without_the_text_is_no_line_of_text(first_line: bytes, format_: str) -> None:
    with pytest.raises(SourceError) as caught:
        list(read_source("-", stdin=io.BytesIO(first_line + b"\n")))
    assert str(caught.value) == (
        "<stdin>: its first line looks like a table's header without 'text': "
        f"say --format {format_} and --text-field, or --format txt for lines of text"
    )
    stdin = io.BytesIO(first_line + b"\n")
    (document,) = documents(list(read_source("-", format=Format.TXT, stdin=stdin)))
    assert document.text == first_line.decode()


@pytest.mark.parametrize("line", ["Dear reader, this is a text", "a, b, c", "the text; and more"])
def test_a_line_of_text_may_have_commas(line: str) -> None:
    (document,) = documents(list(read_source("-", stdin=io.BytesIO(line.encode()))))
    assert document.text == line


def test_a_table_called_txt_is_read_by_lines_and_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("id\ttext\r\n1\ta\r\n".encode("utf-16"))
    for format_ in (Format.AUTO, Format.TXT):
        readings = documents(list(read_source(path, format=format_)))
        assert [one.text for one in readings] == ["id\ttext", "1\ta"]
    path.write_bytes(b"text\nor other words\n")
    assert len(list(read_source(path))) == 2
    assert caplog.messages == [
        f"{path}: read line by line, but its first line is a header; --format tsv reads a table"
    ]


def test_the_named_text_field_tells_a_table(caplog: pytest.LogCaptureFixture) -> None:
    stdin = io.BytesIO(b"id,body\n1,a\n")
    (document,) = documents(list(read_source("-", fields=Fields(text="body"), stdin=stdin)))
    assert document.text == "a"


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
