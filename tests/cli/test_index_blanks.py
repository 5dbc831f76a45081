"""Rows without a text, and rows that are there twice: what ``layerdex index`` counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from layerdex import Index
from layerdex.errors import RowError
from tests.cli.corpus import DOCUMENTS, EXPORTED, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer
from tests.indexer.readers.workbook import write_xlsx

ROWS: list[dict[str, Any]] = [
    {"id": "007", "text": "the first", "label": "a"},
    {"id": "008", "text": None, "label": "a"},
    {"id": "009", "text": "", "label": "a"},
    {"id": "010", "text": " \n ", "label": "a"},
    {"id": "007", "text": "the first", "label": "a"},
    {"id": "011", "text": "several\nlines; here", "label": "b"},
    {"id": "011", "text": "several\nlines; here", "label": "c"},
    {"id": None, "text": None, "label": None},
]
IN_CSV = "7 read = 2 new + 0 updated + 0 unchanged + 3 blank + 1 repeated + 1 rejected\n"
"""The last row has no cell with a value, so it is none."""


def write(folder: Path, name: str) -> Path:
    path, frame = folder / name, pd.DataFrame(ROWS)
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False, sep=";", encoding="cp1252")
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".xlsx":
            cells = [list(ROWS[0]), *([row[name] for name in ROWS[0]] for row in ROWS)]
            write_xlsx(path, {"Table": cells})
        case ".parquet":
            frame.to_parquet(path, index=False)
        case _:
            write_jsonl(path, ROWS)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.xlsx", "t.parquet"])
def test_every_row_of_a_table_is_counted_once(cli: Cli, tmp_path: Path, name: str) -> None:
    if name == "t.xlsx":
        pytest.importorskip("python_calamine")
    source = write(tmp_path, name)
    result = cli.ok("index", tmp_path / "new", source, "--on-error", "skip")
    whole = IN_CSV.replace("7 read", "8 read").replace("3 blank", "4 blank")
    assert result.stdout.splitlines(keepends=True)[0] == (whole if name == "t.parquet" else IN_CSV)
    skipped = [line for line in result.stderr.splitlines() if line.startswith("Skipped")]
    assert len(skipped) == 1
    assert "id '011' was already given at" in skipped[0]
    assert [row["id"] for row in cli.jsonl("export", tmp_path / "new")] == ["007", "011"]
    report = cli.json("index", tmp_path / "new", source, "--on-error", "skip", "-q")
    parts = ("new", "updated", "unchanged", "blank", "repeated", "rejected")
    assert report["n_read"] == sum(report[f"n_{part}"] for part in parts)
    assert (report["n_unchanged"], report["n_repeated"], report["n_rejected"]) == (2, 1, 1)


def test_a_blank_text_outside_of_tables_is_a_bad_row_unless_said(cli: Cli, tmp_path: Path) -> None:
    source, new = write(tmp_path, "t.jsonl"), tmp_path / "new"
    assert cli.error("index", new, source) == f"{source}:2: text is null"
    words = ("index", new, source, "--on-error", "skip")
    assert cli.json(*words, "-q")["n_rejected"] == 5
    report = cli.json(*words, "--on-blank", "skip", "-q")
    assert (report["n_blank"], report["n_rejected"], report["n_unchanged"]) == (4, 1, 2)


def test_blank_cells_are_bad_rows_if_that_is_said(cli: Cli, tmp_path: Path) -> None:
    source, new = write(tmp_path, "t.csv"), tmp_path / "new"
    assert cli.error("index", new, source, "--on-blank", "error") == f"{source}:3: text is empty"
    rejects = tmp_path / "bad.jsonl"
    words = ("--on-blank", "error", "--on-error", "skip", "--rejects", rejects, "-q")
    cli.ok("index", new, source, *words)
    assert rejects.read_text().count('"reason": "text is ') == 3


def test_a_table_of_blank_texts_makes_no_index(cli: Cli, tmp_path: Path) -> None:
    source, new = tmp_path / "t.csv", tmp_path / "new"
    source.write_text("id,text\n1,\n2,\n")
    result = cli("index", new, source)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: every row that was read has a blank text in 'text': {new} was not created\n"
    )
    assert not new.exists()


def test_with_sync_a_blank_row_keeps_its_document(cli: Cli, path: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame([{"id": one["id"], "text": one["text"]} for one in DOCUMENTS])
    frame.loc[[0, 5], "text"] = ["", "  "]
    source = tmp_path / "t.csv"
    frame.to_csv(source, index=False)
    assert cli.data("index", path, source, "--sync").splitlines()[0] == (
        "20 read = 0 new + 0 updated + 18 unchanged + 2 blank + 0 rejected"
    )
    assert cli.jsonl("export", path) == EXPORTED
    dry = cli.ok("index", path, source, "--sync", "--dry-run").stderr
    assert dry.startswith("20 read; 0 new, 0 updated, 18 unchanged, 2 blank, 0 rejected, 0 removed")


def test_a_source_given_twice_is_repeated(cli: Cli, path: Path, source: Path) -> None:
    assert cli.data("index", path, source, source).splitlines()[0] == (
        "40 read = 0 new + 0 updated + 20 unchanged + 20 repeated + 0 rejected"
    )


def test_data_frames_are_tables_and_mappings_are_not(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "new", model=WordTransformer())
    report = index.add(pd.DataFrame(ROWS), on_error="skip")
    assert (report.n_new, report.n_blank, report.n_repeated, report.n_rejected) == (2, 4, 1, 1)
    with pytest.raises(RowError, match="<memory>:2: text is null"):
        index.add(ROWS)
    assert index.add(ROWS[:4], on_blank="skip").n_blank == 3
    with pytest.raises(RowError, match="<memory>:2: text is null"):
        index.add(pd.DataFrame(ROWS), on_blank="error")
