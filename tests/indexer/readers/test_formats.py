from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers import check_sources, read_source
from layerdex.indexer.readers.formats import resolve_format


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", Format.JSONL),
        ("a.NDJSON", Format.JSONL),
        ("a.json", Format.JSON),
        ("a.csv", Format.CSV),
        ("a.tsv", Format.TSV),
        ("a.tab", Format.TSV),
        ("a.parquet", Format.PARQUET),
        ("a.pq", Format.PARQUET),
        ("a.xlsx", Format.XLSX),
        ("a.XLS", Format.XLSX),
        ("a.ods", Format.XLSX),
        ("a.txt", Format.TXT),
        ("a.b.text", Format.TXT),
    ],
)
def test_auto_goes_by_the_extension(name: str, expected: Format, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    assert resolve_format(tmp_path / name, Format.AUTO) is expected
    assert resolve_format(str(tmp_path / name), Format.CSV) is Format.CSV


def test_directory_is_a_folder_whatever_its_extension(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    assert resolve_format(tmp_path / "a.csv", Format.AUTO) is Format.FOLDER


@pytest.mark.parametrize(
    ("name", "format_", "message"),
    [
        (
            "a.csv.gz",
            Format.AUTO,
            "compressed files are not supported; decompress it to standard input, and use - with "
            "--format csv",
        ),
        ("a.docx", Format.AUTO, "unknown extension '.docx'; say which with --format (jsonl, json,"),
        ("plain", Format.AUTO, "no extension; say which with --format (jsonl, json, csv, tsv,"),
        ("dir", Format.CSV, "is a folder; use --format folder"),
        ("a.docx", Format.FOLDER, "is not a folder"),
    ],
)
def test_unknown_and_impossible_formats_are_errors(
    name: str, format_: Format, message: str, tmp_path: Path
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "a.docx").write_bytes(b"")
    (tmp_path / "plain").write_bytes(b"")
    (tmp_path / "a.csv.gz").write_bytes(b"")
    for check in (lambda path: check_sources([path], format=format_), read_as(format_)):
        with pytest.raises(SourceError) as caught:
            check(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {message}")


def read_as(format_: Format) -> Any:
    return lambda path: read_source(path, format=format_)


def test_missing_file_is_named(tmp_path: Path) -> None:
    good, missing = tmp_path / "a.txt", tmp_path / "b.txt"
    good.write_bytes(b"")
    check_sources([good])
    with pytest.raises(SourceError) as caught:
        check_sources([good, missing])
    assert str(caught.value) == f"cannot read {missing}: no such file or directory"


@pytest.mark.parametrize("source", ["", "a\0b"])
def test_impossible_name_is_an_error(source: str) -> None:
    with pytest.raises(SourceError, match="is not the name of a source"):
        check_sources([source])


def test_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\n")

    # the tests may run as root, who may read everything
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    for attempt in (lambda: check_sources([path]), lambda: list(read_source(path))):
        with pytest.raises(SourceError) as caught:
            attempt()
        assert str(caught.value) == f"cannot read {path}: permission denied"


def test_named_pipe_is_not_opened_by_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    os.mkfifo(path)
    opened: list[object] = []
    monkeypatch.setattr(Path, "open", lambda self, _mode: opened.append(self))
    check_sources([path])
    assert opened == []


@pytest.mark.parametrize("format_", [Format.PARQUET, Format.XLSX])
def test_standard_input_can_be_given_once_and_not_as_parquet(format_: Format) -> None:
    check_sources(["-"])
    with pytest.raises(SourceError, match="given more than once"):
        check_sources(["-", Path("-")])
    with pytest.raises(SourceError, match=f"<stdin>: {format_} cannot be read from standard input"):
        check_sources(["-"], format=format_)
