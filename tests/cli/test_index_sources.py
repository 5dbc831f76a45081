"""``layerdex index`` with sources of every kind."""

from __future__ import annotations

import csv
import hashlib
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.corpus import write_jsonl
from tests.cli.runner import Cli

ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "the first text, with a comma", "label": "x", "stars": 1},
    {"id": "b", "text": "the second\ttext", "label": "y", "stars": 2},
    {"id": "c", "text": 'a "third" one', "label": "x", "stars": 3},
]
SUM = "3 read = 3 new + 0 updated + 0 unchanged + 0 rejected\n"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new"


def exported(rows: list[dict[str, Any]], *, as_text: bool = False) -> list[dict[str, Any]]:
    """Return rows as ``export`` writes them; delimited files know only text."""
    return [
        {
            "id": row["id"],
            "text": row["text"],
            "label": row["label"],
            "metadata": {"stars": str(row["stars"]) if as_text else row["stars"]},
        }
        for row in rows
    ]


def delimited(delimiter: str) -> str:
    target = StringIO()
    writer = csv.DictWriter(target, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return target.getvalue()


def derived_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write_source(kind: str, path: Path) -> Path:
    match kind:
        case "jsonl":
            write_jsonl(path, ROWS)
        case "json":
            path.write_text(json.dumps(ROWS), encoding="utf-8")
        case "parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), path)
        case _:
            path.write_text(delimited("," if kind == "csv" else "\t"), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "csv", "tsv"])
@pytest.mark.parametrize("named_by", ["suffix", "format"])
def test_a_table_of_documents(
    cli: Cli, new: Path, tmp_path: Path, kind: str, named_by: str
) -> None:
    suffix, words = (kind, []) if named_by == "suffix" else ("data", ["--format", kind])
    source = write_source(kind, tmp_path / f"source.{suffix}")
    assert cli.ok("index", new, source, *words).stdout.startswith(SUM)
    assert cli.jsonl("export", new) == exported(ROWS, as_text=kind in ("csv", "tsv"))


def test_a_text_file_is_a_document_a_line(cli: Cli, new: Path, tmp_path: Path) -> None:
    source = tmp_path / "lines.txt"
    source.write_text("one line\nanother\none line\n", encoding="utf-8")
    assert cli.ok("index", new, source).stdout.startswith(SUM)
    documents = cli.jsonl("export", new)
    assert [one["text"] for one in documents] == ["one line", "another", "one line"]
    first, second = derived_id("one line"), derived_id("another")
    assert [one["id"] for one in documents] == [first, second, f"{first}-2"]


def test_a_folder_is_a_document_a_file(cli: Cli, new: Path, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    (folder / "old").mkdir(parents=True)
    (folder / "b.txt").write_text("text of b", encoding="utf-8")
    (folder / "old" / "a.md").write_text("text of a\nin two lines\n", encoding="utf-8")
    cli.ok("index", new, folder)
    assert cli.jsonl("export", new) == [
        {"id": "b.txt", "text": "text of b", "label": None, "metadata": {}},
        {
            "id": "old/a.md",
            "text": "text of a\nin two lines\n",
            "label": None,
            "metadata": {"folder": "old"},
        },
    ]


def test_an_index_inside_a_folder_is_left_out(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "a.txt").write_text("text of a", encoding="utf-8")
    for sum_ in ("1 read = 1 new +", "1 read = 0 new +"):
        assert cli.ok("index", folder / "ix", folder).stdout.startswith(sum_)
    assert [one["id"] for one in cli.jsonl("export", folder / "ix")] == ["a.txt"]


def test_an_index_is_no_folder_of_texts(cli: Cli, path: Path) -> None:
    message = cli.error("index", path, path)
    assert message == f"{path}: is an index; read what 'layerdex export' writes"


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        ([], "".join(json.dumps(row) + "\n" for row in ROWS)),
        ([], json.dumps(ROWS, indent=2)),
        (["--format", "jsonl"], "".join(json.dumps(row) + "\n" for row in ROWS)),
        (["--format", "json"], json.dumps(ROWS)),
    ],
)
def test_standard_input(cli: Cli, new: Path, words: list[str], stdin: str) -> None:
    assert cli.ok("index", new, "-", *words, stdin=stdin).stdout.startswith(SUM)
    assert cli.jsonl("export", new) == exported(ROWS)


def test_standard_input_of_delimited_text(cli: Cli, new: Path) -> None:
    cli.ok("index", new, "-", "--format", "csv", stdin=delimited(","))
    assert cli.jsonl("export", new) == exported(ROWS, as_text=True)


def test_a_bad_row_of_standard_input_is_named(cli: Cli, new: Path) -> None:
    message = cli.error("index", new, "-", "-q", stdin='{"text": "a"}\n{"txt": "b"}\n')
    assert message == "<stdin>:2: no text field 'text'; there is 'txt'; try --text-field txt"


def test_several_sources_are_read_in_the_order_given(cli: Cli, new: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.txt"
    second.write_text("from the text file\n", encoding="utf-8")
    first = write_source("csv", tmp_path / "first.csv")
    result = cli.ok("index", new, second, "-", first, stdin='{"text": "from the pipe"}\n')
    assert result.stdout.startswith("5 read = 5 new + 0 updated")
    assert [one["text"] for one in cli.jsonl("export", new)] == [
        "from the text file",
        "from the pipe",
        *(row["text"] for row in ROWS),
    ]


def test_an_id_that_two_sources_give_is_rejected(cli: Cli, new: Path, tmp_path: Path) -> None:
    first = write_source("csv", tmp_path / "first.csv")
    again = write_jsonl(tmp_path / "again.jsonl", [{**ROWS[1], "text": "another text"}])
    message = cli.error("index", new, first, again, "-q")
    assert message.startswith(f"{again}:1: id 'b' was already given at {first}:")


def test_fields_can_have_other_names(cli: Cli, new: Path, tmp_path: Path) -> None:
    rows = [{"key": 7, "body": "some text", "stars": 5, "lang": "en", "tags": ["x", "y"]}]
    source = write_jsonl(tmp_path / "s.jsonl", rows)
    words = ["--text-field", "body", "--id-field", "key", "--label-field", "stars"]
    cli.ok("index", new, source, *words, "--metadata-field", "lang")
    assert cli.jsonl("export", new) == [
        {"id": "7", "text": "some text", "label": "5", "metadata": {"lang": "en"}}
    ]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
@pytest.mark.parametrize(("option", "named"), [("label", "lable"), ("text", "txet")])
def test_a_misspelt_field_stops_the_run_before_anything_is_made(
    cli: Cli, new: Path, tmp_path: Path, kind: str, option: str, named: str
) -> None:
    source = write_source(kind, tmp_path / f"source.{kind}")
    words = (f"--{option}-field", named, "--on-error", "skip", "-q")
    assert cli.error("index", new, source, *words) == (
        f"{source}: no {option} field '{named}'; there is 'id', 'text', 'label', 'stars'; "
        f"try --{option}-field {option}"
    )
    assert not new.exists()


@pytest.mark.parametrize(
    ("words", "content", "message"),
    [
        ([], '{"text": "a", "tags": []}', "is nested (list); name the fields to keep with --metad"),
        (["--id-field", "key"], '{"text": "a", "id": 1}', "no id field 'key'; there is 'text'"),
        ([], '{"text": "a",}', "broken JSON"),
        ([], '{"text": 5}', "text is not a string (int)"),
    ],
)
def test_a_bad_row_is_named(
    cli: Cli, new: Path, tmp_path: Path, words: list[str], content: str, message: str
) -> None:
    source = tmp_path / "s.jsonl"
    source.write_text('{"id": 1, "text": "good", "key": 1}\n' + content, encoding="utf-8")
    error = cli.error("index", new, source, *words, "-q")
    assert error.startswith(f"{source}:2: ")
    assert message in error


def test_an_unknown_format_names_the_known_ones(cli: Cli, new: Path, tmp_path: Path) -> None:
    source = tmp_path / "s.docx"
    source.write_text("x", encoding="utf-8")
    message = cli.error("index", new, source)
    assert message == (
        f"{source}: unknown extension '.docx'; say which with --format "
        "(jsonl, json, csv, tsv, parquet, xlsx, txt, folder)"
    )


def test_an_index_is_made_again_of_its_export(cli: Cli, path: Path, tmp_path: Path) -> None:
    output = tmp_path / "export.jsonl"
    cli.ok("export", path, "-o", output)
    cli.ok("index", tmp_path / "same", output)
    assert cli.data("export", tmp_path / "same") == cli.data("export", path)
    files, same = (
        {(one.name, one.read_bytes()) for one in folder.rglob("*.faiss")}
        for folder in (path, tmp_path / "same")
    )
    assert files == same
