"""Text in other encodings than UTF-8, in every format that is text."""

from __future__ import annotations

import codecs
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Dialect, Reading, read_source
from layerdex.indexer.readers.encoding import ADVICE
from layerdex.indexer.readers.streams import CHUNK_BYTES
from tests.indexer.readers.sources import documents, reasons

TEXTS = ["Größe ändern", "l’été – déjà", "plain"]
FORMATS = {
    "jsonl": "".join(f'{{"text": "{text}"}}\n' for text in TEXTS),
    "json": "[" + ", ".join(f'{{"text": "{text}"}}' for text in TEXTS) + "]",
    "csv": "text,n\r\n" + "".join(f"{text},1\r\n" for text in TEXTS),
    "tsv": "text\tn\r\n" + "".join(f"{text}\t1\r\n" for text in TEXTS),
    "txt": "\n".join(TEXTS),
}
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
ANOTHER = "; --encoding names another one"


def read(path: Path, data: bytes, encoding: str | None = None) -> list[Reading]:
    path.write_bytes(data)
    return list(read_source(path, dialect=Dialect(encoding=encoding)))


def texts(readings: list[Reading]) -> list[str]:
    return [one.text for one in documents(readings)]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("encoding", MARKS)
def test_a_byte_order_mark_decides(
    kind: str, encoding: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = MARKS[encoding] + FORMATS[kind].encode(encoding)
    for given in (None, "cp1252"):
        assert texts(read(tmp_path / f"a.{kind}", data, given)) == TEXTS
    assert caplog.messages == []


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_recognised_and_noted(
    kind: str, encoding: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = FORMATS[kind].removeprefix("Größe ändern\n")  # the first characters are ASCII
    path = tmp_path / f"a.{kind}"
    if kind == "txt":
        content = "ok\n" + content
    found = texts(read(path, content.encode(encoding)))
    assert found[-2:] == TEXTS[-2:]
    assert caplog.messages == [
        f"{path}: read as {encoding}, as its first characters have two bytes; "
        "--encoding names another one"
    ]


def test_what_is_recognised_is_noted_once_although_tsv_is_read_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tsv"
    (document,) = documents(read(path, 'text\tn\n"a\t1\n'.encode("utf-16-le")))
    assert document.text == '"a'
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8-sig", "utf-7"])
def test_an_encoding_can_be_given(kind: str, encoding: str, tmp_path: Path) -> None:
    data = FORMATS[kind].encode(encoding)
    assert texts(read(tmp_path / f"a.{kind}", data, encoding)) == TEXTS


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "txt"])
def test_a_file_in_another_encoding_is_one_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    with pytest.raises(SourceError) as caught:
        read(path, FORMATS[kind].encode("cp1252"))
    line = 2 if kind in ("csv", "tsv") else 1
    assert str(caught.value) == (
        f"{path}:{line}: invalid UTF-8, as in most lines that are not ASCII; {ADVICE}, "
        "or utf-8 to have such rows rejected one by one"
    )
    found = reasons(read(path, FORMATS[kind].encode("cp1252"), "utf-8"))
    assert [one is None for one in found] == [False, False, True]
    assert "--encoding" in ADVICE


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_header_in_another_encoding_is_one_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    data = FORMATS[kind].replace("n\r", "Größe\r", 1).splitlines(keepends=True)
    with pytest.raises(SourceError, match=r":1: invalid UTF-8 in the header; .* --encoding"):
        read(path, "".join([data[0], data[-1]]).encode("cp1252"))


def test_a_broken_line_among_whole_ones_is_rejected_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert reasons(read(path, b"fine\n\xff\nfine\n")) == [
        None,
        f"invalid UTF-8 at byte 1; {ADVICE}",
        None,
    ]
    data = "é\n".encode() * 3 + b"\xe9\n\xe9\n"
    assert [one is None for one in reasons(read(path, data))] == [True, True, True, False, False]


def test_a_character_across_the_end_of_the_first_window_is_whole(tmp_path: Path) -> None:
    text = "x" * (CHUNK_BYTES - 4) + "\né" + "é" * 10
    assert len(texts(read(tmp_path / "a.txt", text.encode()))) == 2


@pytest.mark.parametrize("encoding", ["utf-16-le", "cp1252"])
def test_long_text_in_another_encoding_is_whole(encoding: str, tmp_path: Path) -> None:
    lines = [f"{number} é{'x' * 50}" for number in range(10_000)]
    data = "\n".join(lines).encode(encoding)
    assert texts(read(tmp_path / "a.txt", data, encoding)) == lines


@pytest.mark.parametrize(
    ("data", "encoding", "what", "advice"),
    [
        (b"ok\n\x81\n", "cp1252", "is not cp1252 (", ANOTHER),
        (
            "text".encode("utf-16-le")[:-1],
            "utf-16-le",
            "ends within a character of utf-16-le (",
            ANOTHER,
        ),
        ("text".encode("utf-16-le")[:-1], None, "ends within a character of utf-16-le (", ANOTHER),
        (b"\xff\xfe\x00\xd8a\x00", None, "is not utf-16-le (", ""),
        (b"\xff\xfe\x00\xd8a\x00", "cp1252", "is not utf-16-le (", ""),
    ],
)
def test_bytes_that_the_encoding_lacks_are_an_error(
    data: bytes, encoding: str | None, what: str, advice: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(SourceError) as caught:
        read(path, data, encoding)
    assert str(caught.value).startswith(f"{path}: {what}")
    assert str(caught.value).endswith(f"){advice}")


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
def test_a_workbook_is_no_text(start: bytes, tmp_path: Path) -> None:
    advice = "is a zip or Excel file, not text; read a spreadsheet's file with --format xlsx"
    with pytest.raises(SourceError, match=advice):
        read(tmp_path / "a.csv", start + b"rest")


def test_a_compressed_file_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.csv: is compressed by gzip; decompress it"):
        read(tmp_path / "a.csv", gzip.compress(b"text\na\n"))


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl"])
@pytest.mark.parametrize("encoding", [None, "cp1252"])
def test_a_parquet_file_is_no_text(kind: str, encoding: str | None, tmp_path: Path) -> None:
    source = io.BytesIO()
    pq.write_table(pa.table({"text": ["größe", "b"]}), source)
    message = "is a parquet file, not text; give its path, with --format parquet"
    with pytest.raises(SourceError) as caught:
        read(tmp_path / f"a.{kind}", source.getvalue(), encoding)
    assert str(caught.value) == f"{tmp_path / 'a'}.{kind}: {message}"
    source.seek(0)
    with pytest.raises(SourceError) as caught:
        list(read_source("-", stdin=source))
    assert str(caught.value) == f"<stdin>: {message}"


def test_a_text_may_begin_with_the_mark_of_parquet(tmp_path: Path) -> None:
    (line,) = documents(read(tmp_path / "a.txt", b"PAR1 is a kind of lamp\n"))
    assert line.text == "PAR1 is a kind of lamp"
