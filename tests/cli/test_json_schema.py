"""What commands print as JSON has exactly the fields that its schema names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from layerdex import Index
from layerdex.index import approximates
from layerdex.index.json import output_schema, read_schemas, to_json
from layerdex.options import EncoderOptions
from scripts.json_reference import TARGET, render
from tests.cli.corpus import DOCUMENTS, write_jsonl
from tests.cli.runner import Cli
from tests.cli.test_evaluate_command import TEST
from tests.cli.test_measures import PAIRS, QRELS, QUERIES
from tests.cli.words import WordTransformer
from tests.storage.steps import accelerate

Place = Callable[[Sequence[str]], list[str]]

WRONG = {"food-2": "card", "rain-5": "food"}
JUDGED = ("--queries", "queries.jsonl", "--qrels", "qrels.tsv")
WHITEN = ("--transform", "whiten")
DOCUMENTS_OF: dict[str, list[tuple[str, ...]]] = {
    "search --json": [
        ("search", "index", "my card", "fresh soup", "--layer", "0,2", "-k", "2"),
        ("search", "index", "--like", "card-0", "--input", "asked.jsonl", "-k", "2"),
        ("search", "index", "my card", "--layer", "0-3", "--fuse", "rrf", "-k", "2"),
        ("search", "full", "my card", "--layer", "2", *WHITEN, "-k", "2"),
        ("search", "index", "my card", "--where", "stars>90"),
    ],
    "classify --json": [
        ("classify", "index", "my card", "--input", "asked.jsonl", "--min-confidence", "0.9"),
        ("classify", "full", "my card", "--with", "head"),
        ("classify", "full", "my card", "--layer", "1,2", "--fuse", "concat", *WHITEN),
    ],
    "classify --report --json": [
        ("classify", "index", "--input", "test.jsonl", "--report", "--min-confidence", "0.5"),
        ("classify", "full", "--input", "test.jsonl", "--report", "--with", "head"),
    ],
    "evaluate --json": [
        ("evaluate", "index", "-k", "1,5", "--weights", "both", "--report"),
        ("evaluate", "index", "--folds", "3", "--layers", "1:2,2", "--fuse", "mean", *WHITEN),
        ("evaluate", "index", "--test", "test.jsonl", "--resamples", "0"),
        ("evaluate", "index", "--sample", "8"),
        ("evaluate", "full", "--test", "test.jsonl", "--with", "head", "--report"),
    ],
    "evaluate --by A --by B --json": [("evaluate", "index", "--by", "lang", "--by", "label")],
    "evaluate --queries FILE --qrels FILE --json": [
        ("evaluate", "index", *JUDGED, "--layers", "1,3", "--fuse", "rrf"),
        ("evaluate", "index", *JUDGED, *WHITEN, "--resamples", "0"),
    ],
    "evaluate --pairs FILE --json": [
        ("evaluate", "index", "--pairs", "pairs.jsonl"),
        ("evaluate", "index", "--pairs", "pairs.jsonl", "--positive-from", "3"),
    ],
    "evaluate --compare INDEX2 --json": [
        ("evaluate", "index", "--compare", "other", "-k", "3"),
        ("evaluate", "index", "--compare", "other", *JUDGED),
        ("evaluate", "index", "--compare", "other", "--pairs", "pairs.jsonl"),
        (
            *("evaluate", "index", "--compare", "other", "--resamples", "0"),
            *("--pairs", "pairs.jsonl", "--positive-from", "3"),
        ),
    ],
    "layers --json": [("layers", "index", "-k", "4")],
    "probe --json": [("probe", "index", "-k", "3", "--layers", "1,2")],
    "transform --json": [("transform", "new"), ("transform", "new", "--shrinkage", "0.3")],
    "accelerate --json": [("accelerate", "new", "--layers", "0,2")],
    "dedup --json": [
        ("dedup", "index", "--threshold", "0.4", "--layer", "1"),
        ("dedup", "full", "--layer", "0,1", "--fuse", "mean", *WHITEN),
    ],
    "dedup --suggest --json": [("dedup", "full", "--suggest", "--layer", "2", *WHITEN)],
    "dedup --against INDEX2 --json": [
        ("dedup", "part", "--against", "full", "--layer", "0,3", "--threshold", "0.2", *WHITEN),
    ],
    "suspects --json": [
        ("suspects", "wrong", "-k", "5", "--limit", "1"),
        ("suspects", "part", "-k", "2", *WHITEN),
    ],
    "labels apply --json": [("labels", "apply", "new", "review.jsonl", "--dry-run")],
    "get --json": [("get", "index", "card-0", "bare")],
    "info --json": [("info", "index"), ("info", "full")],
    "info --truncated --json": [("info", "new", "--truncated")],
    "info --unknown --json": [("info", "unread", "--unknown")],
    "index --json": [("index", "new", "long.jsonl")],
    "index --dry-run --json": [("index", "new", "today.jsonl", "--sync", "--dry-run")],
    "delete --json": [("delete", "new", "nobody", "--missing-ok")],
    "delete --dry-run --json": [("delete", "index", "--where", "label=card", "--dry-run")],
    "doctor --json": [("doctor",)],
}
LINES_OF: dict[str, tuple[str, ...]] = {
    "search --jsonl": ("search", "full", "my card", "--layer", "0,2", "-k", "2", "--jsonl"),
    "classify --jsonl": ("classify", "index", "my card", "soup", "--jsonl"),
    "suspects --jsonl": ("suspects", "part", "-k", "2", *WHITEN, "--jsonl"),
    "get": ("get", "index", "card-0", "bare"),
    "export": ("export", "index", "--vectors", "--layer", "0,1"),
    "info --truncated": ("info", "new", "--truncated"),
    "info --unknown": ("info", "unread", "--unknown"),
}
FILES_OF: dict[str, tuple[str, ...]] = {
    "dedup --clusters FILE": ("dedup", "index", "--threshold", "0.4", "--clusters", "out.jsonl"),
    "index --rejects FILE": (
        *("index", "new", "bad.jsonl", "--on-error", "skip", "--rejects", "out.jsonl"),
    ),
}
ELSEWHERE = "tune --json"  # in `test_tune_command`, as it takes a model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of indexes and files that the commands above ask for."""
    folder = tmp_path_factory.mktemp("json")

    def make(name: str, rows: list[dict[str, Any]], template: str = "{text}") -> Index:
        index = Index.create(
            folder / name, model=WordTransformer(EncoderOptions(template=template))
        )
        index.add(rows)
        return index

    make("index", DOCUMENTS)
    make("other", [*reversed(DOCUMENTS[:-1])], "so {text} then")
    make("wrong", [{**one, "label": WRONG.get(one["id"], one.get("label"))} for one in DOCUMENTS])
    make("unread", [*DOCUMENTS, {"id": "smile", "text": "😀"}])
    make("new", [*DOCUMENTS, {"id": "long", "text": "word " * 13}])
    for name, rows in (("full", DOCUMENTS), ("part", [DOCUMENTS[i] for i in (0, 1, 6, 7, 12, 18)])):
        index = make(name, rows)
        index.fit_transforms()
        index.save_head(index.at().probe(k=2, folds=2))
        index.save_best(index.evaluate(n_resamples=50))
        if name == "full":
            accelerate(index, 0.5)
    changed = [*DOCUMENTS[5:7], {**DOCUMENTS[7], "text": "new"}, {"id": "n", "text": "x"}]
    sources: dict[str, Sequence[Mapping[str, Any]]] = {
        "test": TEST,
        "queries": QUERIES,
        "pairs": PAIRS,
        "asked": [{"id": "q1", "text": "my card"}, {"text": "fresh soup"}],
        "long": [{"id": "long", "text": "word " * 13}],
        "today": changed,
        "review": [
            {"id": "card-0", "label": "food", "new_label": "rain"},
            {"id": "card-1", "label": "card", "new_label": "snow"},
            {"id": "lost", "label": None, "new_label": "(none)"},
            {"id": "card-2", "label": "card", "new_label": None},
        ],
        "bad": [{"id": "b", "text": ""}, DOCUMENTS[3]],
    }
    for name, source in sources.items():
        write_jsonl(folder / f"{name}.jsonl", source)
    lines = [f"{q} 0 {d} {grade}" for q, of_q in QRELS.items() for d, grade in of_q.items()]
    (folder / "qrels.tsv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def place(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Work among what was built; what a command changes or writes lies in a folder of its own."""
    monkeypatch.chdir(built)
    monkeypatch.setattr(approximates, "N_LEAST", 1)

    def give(words: Sequence[str]) -> list[str]:
        if "new" in words:
            shutil.copytree("new", tmp_path / "new")
        own = {"new": str(tmp_path / "new"), "out.jsonl": str(tmp_path / "out.jsonl")}
        return [own.get(word, word) for word in words]

    return give


def check(output: str, value: Any) -> None:
    Draft202012Validator(output_schema(output)).validate(value)


def test_every_output_is_tested() -> None:
    assert {*DOCUMENTS_OF, *LINES_OF, *FILES_OF, ELSEWHERE} == set(read_schemas()["outputs"])


@pytest.mark.parametrize(
    ("output", "words"),
    [(output, words) for output, commands in DOCUMENTS_OF.items() for words in commands],
)
def test_documents_have_the_fields_of_their_schema(
    cli: Cli, place: Place, output: str, words: tuple[str, ...]
) -> None:
    check(output, cli.json(*place(words)))


@pytest.mark.parametrize(("output", "words"), LINES_OF.items())
def test_lines_have_the_fields_of_their_schema(
    cli: Cli, place: Place, output: str, words: tuple[str, ...]
) -> None:
    lines = cli.jsonl(*place(words))
    assert lines
    for line in lines:
        check(output, line)


@pytest.mark.parametrize(("output", "words"), FILES_OF.items())
def test_lines_of_files_have_the_fields_of_their_schema(
    cli: Cli, place: Place, tmp_path: Path, output: str, words: tuple[str, ...]
) -> None:
    cli.ok(*place(words))
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert lines
    for line in lines:
        check(output, json.loads(line))


def test_a_field_that_no_schema_names_is_found(cli: Cli, built: Path) -> None:
    [document] = cli.json("get", built / "index", "card-0")
    check("get", document)
    with pytest.raises(ValidationError, match="surprise"):
        check("get", {**document, "surprise": 1})


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(TypeError, match="int is not a result"):
        to_json(3)


def test_the_schema_is_sound_and_leaves_no_object_open() -> None:
    schemas = read_schemas()
    Draft202012Validator.check_schema(schemas)
    for name, schema in schemas["$defs"].items():
        if schema.get("type") == "object":
            assert "additionalProperties" in schema, name
        properties: Mapping[str, Any] = schema.get("properties", {})
        assert set(schema.get("required", [])) <= set(properties), name
    text = json.dumps(schemas)
    assert [name for name in schemas["$defs"] if f'#/$defs/{name}"' not in text] == []


def test_the_reference_is_current() -> None:
    assert TARGET.read_text("utf-8") == render(), "run python -m scripts.json_reference"
