"""``layerdex classify --input FILE -o FILE`` and ``--report``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import classification_report

from layerdex import Index
from layerdex.index import batches
from layerdex.storage.catalog.source_fields import SOURCE_FIELDS, SourceFields
from tests.cli.corpus import DOCUMENTS, read_jsonl, write_jsonl
from tests.cli.runner import Cli
from tests.indexer.readers.workbook import write_xlsx

ROWS = [
    ["007", "my card is broken", "card", "01.06.2026", " a b "],
    ["008", "soup with butter", "food", "02.06.2026", "=1+1"],
    ["009", "  ", "food", "", "two\nlines; here"],
    ["010", "it rains\ntomorrow", "snow", "1,50", 'a "quote"'],
    ["010", "my card at the bank", "", "", ""],
]
HEADER = ["Nr", "text", "label", "Datum", "predicted"]
ADDED = ["predicted_2", "confidence_2", "evidence_2"]


def write_csv(path: Path, rows: list[list[str]], *, header: list[str], **how: Any) -> Path:
    encoding = how.pop("encoding", "utf-8")
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, **how).writerows([header, *rows])
    return path


def read_csv(path: Path, delimiter: str) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "in.csv", ROWS, header=HEADER, delimiter=";", encoding="cp1252")


@pytest.fixture
def probed(path: Path) -> Path:
    index = Index.open(path)
    index.save_head(index.at(layer=3).probe(k=3))
    return path


@pytest.mark.parametrize("words", [(), ("--with", "head")])
def test_every_row_keeps_its_cells_and_gets_a_prediction(
    cli: Cli,
    probed: Path,
    source: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path / "out.csv"
    result = cli.ok("classify", probed, "--input", source, "-o", output, *words)
    assert result.stdout == ""
    assert "5 rows written to " in result.stderr
    assert "1 row without a text: no prediction" in result.stderr
    assert caplog.text.count("read with the delimiter") == 1
    header, *rows = read_csv(output, ";")  # as the input has it
    assert header == [*HEADER, *ADDED]
    assert [row[:5] for row in rows] == ROWS
    texts = [row[1] for row in ROWS if row[1].strip()]
    expected = iter(cli.json("classify", probed, *texts, *words))
    for row in rows:
        if not row[1].strip():
            assert row[5:] == ["", "", ""]
            continue
        one = next(expected)
        assert (row[5], float(row[6])) == (one["label"], one["confidence"])
        shown = [f"{each['id']} {each['similarity']:.3f}" for each in one["neighbors"][:3]]
        if words:
            [first, *_] = shown = row[7].split("; ")
            assert first == f"{one['label']} {one['confidence']:.3f}"
            assert len(shown) == 3
        else:
            assert row[7] == "; ".join(shown)


def test_columns_that_the_file_lacks_have_plain_names(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", [["1", "my card"]], header=["id", "text"])
    cli.ok("classify", shared, "--input", source, "-o", tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text("utf-8").splitlines()[0].split("\t") == [
        *("id", "text", "predicted", "confidence", "evidence")
    ]


def test_a_csv_file_begins_with_the_mark_that_excel_needs(
    cli: Cli, shared: Path, source: Path, tmp_path: Path
) -> None:
    cli.ok("classify", shared, "--input", source, "-o", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes().startswith(b"\xef\xbb\xbf")


def test_jsonl_and_parquet_keep_types(cli: Cli, shared: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "my card", "n": 1, "tags": ["a", "ü"]},
        {"text": None, "n": 2, "tags": []},
        {"n": None, "text": "fresh soup", "more": True},
    ]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    cli.ok("classify", shared, "--input", source, "-o", tmp_path / "out.jsonl")
    found = read_jsonl((tmp_path / "out.jsonl").read_text("utf-8"))
    assert [{name: one[name] for name in row} for one, row in zip(found, rows, strict=True)] == rows
    assert [one["predicted"] for one in found] == ["card", None, "food"]
    cli.ok("classify", shared, "--input", source, "-o", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == [
        "text",
        "n",
        "tags",
        "more",
        "predicted",
        "confidence",
        "evidence",
    ]
    assert table.schema.field("n").type == pa.int64()
    assert table["tags"].to_pylist() == [["a", "ü"], [], None]
    assert table["predicted"].to_pylist() == ["card", None, "food"]
    cli.ok("classify", shared, "--input", tmp_path / "out.parquet", "-o", tmp_path / "again.jsonl")
    again = read_jsonl((tmp_path / "again.jsonl").read_text("utf-8"))
    assert [one["predicted_2"] for one in again] == ["card", None, "food"]
    assert [one["n"] for one in again] == [1, 2, None]


def test_a_spreadsheet_is_read_and_its_rows_written(cli: Cli, shared: Path, tmp_path: Path) -> None:
    cells: list[list[str | float | bool]] = [["id", "text", "n"], ["007", "my card", 3.0]]
    write_xlsx(tmp_path / "in.xlsx", {"Sheet": cells})
    cli.ok("classify", shared, "--input", tmp_path / "in.xlsx", "-o", tmp_path / "out.tsv")
    header, row = (tmp_path / "out.tsv").read_text("utf-8").splitlines()
    assert header.split("\t")[:3] == ["id", "text", "n"]
    assert row.split("\t")[:4] == ["007", "my card", "3", "card"]


def test_a_column_of_several_types_is_text_in_parquet(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "a", "n": 1}, {"text": "b", "n": "x"}])
    cli.ok("classify", shared, "--input", source, "-o", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist() == ["1", "x"]


def test_batches_give_what_all_at_once_gives(
    cli: Cli, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": str(one["text"])} for one in DOCUMENTS]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    cli.ok("classify", shared, "--input", source, "-o", tmp_path / "whole.jsonl")
    monkeypatch.setattr(batches, "N_IN_BATCH", 3)
    cli.ok("classify", shared, "--input", source, "-o", tmp_path / "parts.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    assert whole == (tmp_path / "parts.jsonl").read_bytes()
    assert len(whole.splitlines()) == len(DOCUMENTS)


def test_progress_counts_texts(shared: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    texts = [None, *["my card"] * batches.N_IN_BATCH]
    found = batches.classify_batches(
        texts,
        Index.open(shared).classify,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert [prediction is None for prediction in found] == [text is None for text in texts]
    assert seen == [(len(texts) - 1, len(texts)), (len(texts), len(texts))]


def test_a_file_that_exists_is_kept_and_so_is_the_input(
    cli: Cli, shared: Path, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.csv").write_text("mine")
    words = ("classify", shared, "--input", source, "-o", tmp_path / "out.csv")
    assert "--force" in cli.error(*words)
    assert (tmp_path / "out.csv").read_text() == "mine"
    cli.ok(*words, "--force")
    message = cli.usage("classify", shared, "--input", source, "-o", source, "--force")
    assert "is the input itself" in message
    assert "csv, tsv, jsonl or parquet" in cli.error(*words[:-1], tmp_path / "out.doc")


def test_a_bad_row_leaves_no_file(cli: Cli, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,a\n2,b,c,d\n")
    message = cli.error(
        "classify", shared, "--input", tmp_path / "in.csv", "-o", tmp_path / "o.csv"
    )
    assert "in.csv:3" in message
    assert not (tmp_path / "o.csv").exists()


def test_options_of_files_need_files(cli: Cli, shared: Path, source: Path, tmp_path: Path) -> None:
    assert "--output requires --input" in cli.usage(
        "classify", shared, "a", "-o", tmp_path / "o.csv"
    )
    assert "--report requires --input" in cli.usage("classify", shared, "a", "--report")
    both = ("classify", shared, "a", "--input", source)
    assert "without a TEXT" in cli.usage(*both, "--report")
    out = ("classify", shared, "--input", source, "-o", tmp_path / "o.csv")
    assert "leave it out" in cli.usage(*out, "--jsonl")
    assert "leave it out" in cli.usage(*out, "--json")
    for shown in (("--show", "all"), ("--lines", 1), ("--full",)):
        assert f"{shown[0]} cannot be used with --output" in cli.usage(*out, *shown)
        assert f"{shown[0]} cannot be used with --report" in cli.usage(*out[:4], "--report", *shown)


def test_a_label_that_only_the_head_lacks_needs_a_new_head(
    cli: Cli, probed: Path, tmp_path: Path
) -> None:
    Index.open(probed).add([{"id": "new", "text": "snow falls", "label": "snow"}])
    file = write_jsonl(tmp_path / "t.jsonl", [{"text": "snow", "label": "snow"}])
    words = ("classify", probed, "--input", file, "--report")
    said = cli.ok(*words, "--with", "head").stderr
    assert "as the head does not know it: snow; 'layerdex probe --save'" in said
    assert "cannot be predicted" not in cli.ok(*words).stderr


def labelled(tmp_path: Path) -> Path:
    rows = [{"text": one["text"], "label": one["label"]} for one in DOCUMENTS if one.get("label")]
    wrong = [{**row, "label": "food"} if i % 5 == 0 else row for i, row in enumerate(rows)]
    odd = [{"text": "a strange thing", "label": "snow"}, {"text": "no label"}, {"text": ""}]
    return write_jsonl(tmp_path / "test.jsonl", [*wrong, *odd])


@pytest.mark.parametrize("words", [(), ("--with", "head"), ("--min-confidence", "0.55", "-k", "9")])
def test_the_report_counts_as_scikit_learn_does(
    cli: Cli, probed: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = labelled(tmp_path)
    report = cli.json("classify", probed, "--input", file, "--report", *words)
    rows = [row for row in read_jsonl(file.read_text("utf-8")) if row.get("label")]
    answers = cli.json("classify", probed, *(row["text"] for row in rows), *words)
    true = [row["label"] for row in rows]
    predicted = [answer["label"] or "(none)" for answer in answers]
    labels = sorted({*true, *predicted} - {"(none)"})
    expected = classification_report(
        true, predicted, labels=labels, output_dict=True, zero_division=0
    )
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score", "support": "support"}
    assert [one["label"] for one in report["labels"]] == labels
    for one in report["labels"]:
        assert {mine: one[mine] for mine in names} == pytest.approx(
            {mine: expected[one["label"]][name] for mine, name in names.items()}
        )
    for mean in ("macro", "weighted"):
        assert list(report[mean].values()) == pytest.approx(
            [expected[f"{mean} avg"][name] for name in ("precision", "recall", "f1-score")]
        )
    n_right = sum(map(str.__eq__, true, predicted))
    assert report["accuracy"] == pytest.approx(n_right / len(true))
    assert (report["n"], report["n_unlabelled"]) == (len(true), 1)
    assert report["n_abstained"] == predicted.count("(none)")
    assert (report["n_abstained"] > 0) is ("--min-confidence" in words)
    assert report["unknown_labels"] == ["snow"]
    pairs = [
        (one, other)
        for one, other in zip(true, predicted, strict=True)
        if other not in (one, "(none)")
    ]
    assert {(c["true"], c["predicted"]): c["n"] for c in report["confused"]} == {
        pair: pairs.count(pair) for pair in pairs
    }
    counts = [one["n"] for one in report["confused"]]
    assert counts == sorted(counts, reverse=True)


def test_the_page_shows_labels_averages_and_confusions(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    file = labelled(tmp_path)
    words = ("classify", shared, "--input", file, "--report")
    result = cli.ok(*words, "--min-confidence", "0.55", "-k", "9")
    page = result.stdout
    assert all(len(line) <= 80 for line in page.splitlines())
    for shown in ("precision", "macro average", "weighted average", "accuracy", "card", "snow"):
        assert shown in page
    assert "Most often confused" in cli.ok(*words).stdout
    for said in (
        "without a prediction (--min-confidence): counted as wrong",
        "1 text without a true label left out",
        "1 label of the file cannot be predicted",
        "1 row without a text",
    ):
        assert said in result.stderr


def test_the_true_label_may_have_another_name(cli: Cli, shared: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "t.jsonl", [{"text": "my card", "Kategorie": "card"}])
    report = cli.json(
        *("classify", shared, "--input", file, "--report", "--label-field", "Kategorie")
    )
    assert (report["n"], report["accuracy"]) == (1, 1)
    message = cli.error("classify", shared, "--input", file, "--report", "--label-field", "kat")
    assert "Kategorie" in message


def test_a_report_without_labels_is_an_error(cli: Cli, shared: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "t.jsonl", [{"text": "my card", "label": None}])
    assert "true label" in cli.error("classify", shared, "--input", file, "--report")


def test_labels_that_a_condition_leaves_out_cannot_be_predicted(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "t.jsonl", [{"text": "my card", "label": "card"}])
    words = ("classify", shared, "--input", file, "--report", "--where", "label in food,rain")
    assert cli.json(*words)["unknown_labels"] == ["card"]


def test_a_label_that_was_deleted_is_said_by_info_and_with_an_answer(
    cli: Cli, probed: Path
) -> None:
    whole = cli.json("info", probed)["head"]
    assert whole == {
        "layer": 3,
        "label_field": "label",
        "n": 19,
        "n_labels": 3,
        "vanished_labels": [],
    }
    assert "no document has any more" not in cli.data("info", probed)
    Index.open(probed).delete(*(one["id"] for one in DOCUMENTS if one.get("label") == "rain"))
    assert cli.json("info", probed)["head"] == {**whole, "vanished_labels": ["rain"]}
    assert "3 labels; no document has any more: rain" in " ".join(cli.data("info", probed).split())
    text = "it rains all day in london"
    answer = cli.ok("classify", probed, text, "--with", "head", "--json")
    assert json.loads(answer.stdout)[0]["label"] == "rain"
    assert answer.stderr.startswith("The head predicts labels that no document has any more: rain")
    other = cli.ok("classify", probed, "my bank card", "--with", "head", "--json")
    assert (json.loads(other.stdout)[0]["label"], other.stderr) == ("card", "")


def test_vanished_values_of_a_field_are_those_of_the_field(cli: Cli, path: Path) -> None:
    index = Index.open(path)
    index.save_head(index.at(layer=3).probe(k=3, folds=2, by="lang"))
    assert cli.json("info", path)["head"]["vanished_labels"] == []
    index.delete(*(one["id"] for one in DOCUMENTS if one.get("lang") == "de"))
    head = cli.json("info", path)["head"]
    assert (head["label_field"], head["vanished_labels"]) == ("lang", ["de"])


def test_a_head_of_the_label_by_its_name_in_the_source_is_one_of_the_label(
    cli: Cli, path: Path
) -> None:
    index = Index.open(path)
    with index._open.store.write() as writer:
        writer.set(SOURCE_FIELDS, SourceFields("text", "id", "Kat", None).to_setting())
    cli.ok("probe", path, "-k", 3, "--by", "Kat", "--save", "--layers", 3)
    index.add([{"id": "new", "text": "my card", "label": "card", "Kat": "other"}])
    head = cli.json("info", path)["head"]
    assert (head["label_field"], head["vanished_labels"]) == ("label", [])
