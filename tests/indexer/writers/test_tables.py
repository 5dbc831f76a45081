"""Tables: what is written to a file, spreadsheets, pandas and the readers read as it was."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from layerdex.choices import ExportFormat
from layerdex.errors import OptionError
from layerdex.indexer.readers.input_rows import read_input
from layerdex.indexer.writers.tables import write_table
from layerdex.records import Document
from tests.indexer.writers.test_columns import write

HARD = [
    "a\rb",
    "\r",
    "a\r\nb",
    "a\nb\n",
    'a "b" c',
    '"',
    "a,b",
    "a;b",
    "a\tb",
    " a ",
    "ü",
    "a\x85b",
]
NAMES = ("id", "text", "label")
ROWS = [{"id": str(i), "text": text, "label": text} for i, text in enumerate(HARD)]
CELLS = [[*NAMES], *([*row.values()] for row in ROWS)]


def write_file(folder: Path, name: str) -> Path:
    """Write the rows as ``export`` or as ``classify -o`` does."""
    path = folder / name
    if name.startswith("export"):
        documents = [Document(1, row["id"], row["text"], row["label"], {}) for row in ROWS]
        path.write_bytes(write(documents, ExportFormat.CSV))
    else:
        delimiter = ";" if name.startswith("semicolon") else None
        assert write_table(path, NAMES, ROWS, delimiter=delimiter) == len(ROWS)
    return path


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [("export.csv", ","), ("table.csv", ","), ("semicolon.csv", ";"), ("table.tsv", "\t")],
)
def test_cells_that_could_break_rows_come_back(tmp_path: Path, name: str, delimiter: str) -> None:
    path = write_file(tmp_path, name)
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file, delimiter=delimiter)) == CELLS
    frame = pd.read_csv(path, sep=delimiter, dtype=str, keep_default_na=False)
    assert [list(frame.columns), *frame.values.tolist()] == CELLS
    table = read_input(path, text_field="text")
    assert [list(table.names), *([*row.values()] for row in table.rows)] == CELLS


def test_only_csv_for_spreadsheets_begins_with_a_byte_order_mark(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert write_file(tmp_path, "table.csv").read_bytes().startswith(mark)
    assert not write_file(tmp_path, "table.tsv").read_bytes().startswith(mark)
    assert not write_file(tmp_path, "export.csv").read_bytes().startswith(mark)


def test_tsv_is_quoted_only_where_it_must_be(tmp_path: Path) -> None:
    write_table(tmp_path / "a.tsv", ("a", "b"), [{"a": "my card; here", "b": None}])
    assert (tmp_path / "a.tsv").read_bytes() == b"a\tb\nmy card; here\t\n"


def test_json_has_null_for_numbers_that_are_not_finite(tmp_path: Path) -> None:
    values = [float("nan"), float("inf"), -float("inf"), 1.5]
    rows = [{"text": "a", "n": value, "all": values} for value in values]
    write_table(tmp_path / "a.jsonl", ("text", "n", "all"), rows)
    read = read_input(tmp_path / "a.jsonl", text_field="text").rows
    assert [row["n"] for row in read] == [None, None, None, 1.5]
    assert [row["all"] for row in read] == [[None, None, None, 1.5]] * 4


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv"])
@pytest.mark.parametrize("value", [b"\xff", [b"\xff"], {"inner": b"\xff"}])
def test_bytes_are_an_error_that_names_their_column(
    tmp_path: Path, name: str, value: object
) -> None:
    with pytest.raises(OptionError, match=r"the column 'blob' holds bytes.*\.parquet"):
        write_table(tmp_path / name, ("text", "blob"), [{"text": "a", "blob": value}])
    assert not (tmp_path / name).exists()


def test_parquet_holds_bytes(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", ("blob",), [{"blob": b"\xff"}])
    assert pq.read_table(tmp_path / "a.parquet")["blob"].to_pylist() == [b"\xff"]


@pytest.mark.parametrize("delimiter", [":", ".", "-", "1"])
def test_a_mark_of_plain_words_may_be_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    rows = [["12:30", "x-1"], ["a.b", ""]]
    path = tmp_path / "table.csv"
    named = [dict(zip("mn", row, strict=True)) for row in rows]
    write_table(path, ["m", "n"], named, delimiter=delimiter)
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file, delimiter=delimiter)) == [["m", "n"], *rows]


def test_an_empty_cell_alone_in_its_row_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_table(path, ["m"], [{"m": "a"}, {"m": None}, {"m": "b"}])
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [["m"], ["a"], [""], ["b"]]
