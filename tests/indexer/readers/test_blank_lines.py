"""A blank line is no row in any format of lines, and counts for the numbers of the others."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from layerdex.indexer.readers import Dialect, read_source
from layerdex.records import SourceDocument
from tests.indexer.readers.sources import documents, reasons

BLANKS = ["", " ", "\t", " \t ", "\r", "  \r"]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("txt", ["a", "b"]),
        ("jsonl", ['{"text": "a"}', '{"text": "b"}']),
        ("csv", ["text", "a", "b"]),
        ("csv", ["text,n", "a,1", "b,2"]),
        ("csv", ["text;n", "a;1", "b;2"]),
        ("csv", ["id,text,n", ",a,1", ",b,2"]),
        ("tsv", ["text\tn", "a\t1", "b\t2"]),
        ("tsv", ["text\tn\tm", "a\t1\t1", '"b"\t2\t1']),
    ],
)
def test_a_blank_line_is_no_row(kind: str, lines: list[str], blank: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes("".join(f"{blank}\n{line}\n{blank}\n" for line in lines).encode())
    readings = documents(list(read_source(path, dialect=Dialect(quoting="csv"))))
    assert [one.text for one in readings] == ["a", "b"]
    n = len(lines)
    assert [one.origin.line for one in readings] == [3 * n - 4, 3 * n - 1]


@pytest.mark.parametrize("separator", [",", "\t"])
def test_lines_are_blank_as_pandas_has_it(separator: str, tmp_path: Path) -> None:
    columns = [["text"], ["text", "n"]]
    for header in columns:
        filler = separator.join(["", "1"][: len(header)])
        data = "\n".join(
            [separator.join(header), f"a{filler}", "", "  ", '" "' + filler, f"b{filler}", ""]
        )
        path = tmp_path / "a.csv"
        path.write_text(data, newline="")
        frame = pd.read_csv(io.StringIO(data), sep=separator, keep_default_na=False, dtype=str)
        dialect = Dialect(delimiter=separator)
        readings = list(read_source(path, dialect=dialect))
        found = [one.text if isinstance(one, SourceDocument) else " " for one in readings]
        assert found == list(frame["text"]) == ["a", " ", "b"]
        # A quoted blank is a value: the text is blank, which is said.
        assert reasons(readings) == [None, "text is blank", None]


def test_blank_lines_within_quotes_are_part_of_the_text(tmp_path: Path) -> None:
    data = 'text,n\n"a\n\n \nb",1\n\n"\n\nc",2\n'
    path = tmp_path / "a.csv"
    path.write_text(data)
    readings = documents(list(read_source(path)))
    rows = list(csv.DictReader(io.StringIO(data)))
    assert [one.text for one in readings] == [row["text"] for row in rows]
    assert [one.origin.line for one in readings] == [2, 7]


def test_blank_lines_of_a_file_of_a_folder_are_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\na\n\nb\n")
    (document,) = documents(list(read_source(tmp_path)))
    assert document.text == "\na\n\nb\n"


def test_a_blank_line_above_a_header_hides_it_from_no_guess(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stdin = io.BytesIO(b" \n\t\nid,text\n1,a\n")
    (document,) = documents(list(read_source("-", stdin=stdin)))
    assert (document.id, document.text, document.origin.line) == ("1", "a", 4)
    assert caplog.messages == [
        "<stdin>: read as csv, as its first line is a header; --format txt reads lines"
    ]
