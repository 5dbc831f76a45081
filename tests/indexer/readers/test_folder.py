from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers import Dialect, Fields, check_sources, read_source
from layerdex.records import UNSET, Rejected
from tests.indexer.readers.sources import documents, reasons


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_each_file_is_one_document_in_order_of_path(tmp_path: Path) -> None:
    files = {
        "b.txt": b"\xef\xbb\xbfb\r\nb\n",
        "a/z.md": b"z",
        "a/b/c": b"c",
        "a.txt": b"a",
        ".hidden": b"no",
        ".git/config": b"no",
    }
    write(tmp_path, files)
    readings = documents(list(read_source(tmp_path)))
    assert [(one.id, one.text, dict(one.metadata)) for one in readings] == [
        ("a/b/c", "c", {"folder": "a/b"}),
        ("a/z.md", "z", {"folder": "a"}),
        ("a.txt", "a", {}),
        ("b.txt", "b\r\nb\n", {}),
    ]
    assert str(readings[0].origin) == str(tmp_path / "a/b/c")


def test_folder_may_be_the_label(tmp_path: Path) -> None:
    write(tmp_path, {"pos/1": b"a", "2": b"b"})
    readings = documents(list(read_source(tmp_path, fields=Fields(label="folder"))))
    assert [(one.id, one.label) for one in readings] == [("2", UNSET), ("pos/1", "pos")]
    assert [dict(one.metadata) for one in readings] == [{}, {}]


def test_other_fields_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no text field 'body'; there is 'id', 'text', 'folder'"):
        list(read_source(tmp_path, fields=Fields(text="body")))


def test_bad_files_are_rejected(tmp_path: Path) -> None:
    write(tmp_path, {"1": b"", "2": b"\n", "3": b"\xffa", "4": b"a\0b", "5": b"ab\xc3"})
    readings = list(read_source(tmp_path))
    assert reasons(readings) == [
        "text is empty",
        "text is blank",
        "not UTF-8 text",
        "text contains a NUL character",
        "not UTF-8 text",
    ]
    assert isinstance(readings[0], Rejected)
    assert str(readings[0]) == f"{tmp_path / '1'}: text is empty"


def test_a_byte_order_mark_or_the_dialect_names_the_encoding(tmp_path: Path) -> None:
    write(tmp_path, {"1": codecs.BOM_UTF16_BE + "né".encode("utf-16-be"), "2": b"n\xe9"})
    assert reasons(list(read_source(tmp_path))) == [None, "not UTF-8 text"]
    readings = documents(list(read_source(tmp_path, dialect=Dialect(encoding="latin-1"))))
    assert [one.text for one in readings] == ["né", "né"]


def test_file_name_that_is_no_text_is_rejected(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"a")
    (reading,) = read_source(tmp_path)
    assert isinstance(reading, Rejected)
    assert str(reading) == rf"{tmp_path}/\xff: the file's name is not UTF-8"


def test_characters_across_chunks_are_whole(tmp_path: Path) -> None:
    text = "x" + "é" * 100_000
    write(tmp_path, {"a": text.encode()})
    (document,) = documents(list(read_source(tmp_path)))
    assert document.text == text


@pytest.mark.parametrize(
    ("names", "format_", "pattern"),
    [
        (["part-0.jsonl", "part-1.jsonl"], "jsonl", "*.jsonl"),
        (["a.jsonl", "b.ndjson", "_SUCCESS", ".part.crc"], "jsonl", "*.jsonl"),
        (["only.CSV"], "csv", "*.CSV"),
        (["lang=de/0.parquet", "lang=fr/0.parquet"], "parquet", "*/*.parquet"),
        (["a.tsv"], "tsv", "*.tsv"),
        (["a.json", "b.json"], "json", "*.json"),
        (["a.xlsx", "b.xls"], "xlsx", "*.xlsx"),
    ],
)
def test_a_folder_of_tables_of_one_format_is_an_error(
    names: list[str], format_: str, pattern: str, tmp_path: Path
) -> None:
    write(tmp_path, dict.fromkeys(names, b'{"text": "a"}\n'))
    with pytest.raises(SourceError) as caught:
        check_sources([tmp_path])
    assert str(caught.value) == (
        f"{tmp_path}: holds only {format_} files: give the files themselves "
        f"({tmp_path}/{pattern}), or --format folder to read each as one document"
    )
    assert all(path.is_file() for path in tmp_path.glob(pattern))
    with pytest.raises(SourceError):
        read_source(tmp_path)
    texts = documents(list(read_source(tmp_path, format=Format.FOLDER)))
    assert {one.text for one in texts} == {'{"text": "a"}\n'}


@pytest.mark.parametrize(
    "names", [["a.csv", "b.md"], ["a.csv", "b.json"], ["a.txt", "b.txt"], ["a", "b.csv"], []]
)
def test_a_folder_of_other_files_is_read(names: list[str], tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(names, b"a"))
    check_sources([tmp_path])
    assert len(documents(list(read_source(tmp_path)))) == len(names)
