"""What the command says of a model's sentence-transformers files, and when."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.cli.runner import Cli
from tests.sentence_models import to_sentence_model
from tests.tiny_models import change_json, save_tiny_model

pytestmark = pytest.mark.usefixtures("original_encoder")

PROMPTS = "it has prompts that are not used by default (query 'q: '): give them with"
RUNTIME = ("--engine", "torch", "--device", "cpu", "--dtype", "float32")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_model("bert", tmp_path / "model")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("the cat sat\nTHE CAT SAT\na green stone\n")
    return path


def test_notes_are_given_when_an_index_is_made_and_not_again(
    cli: Cli, model: Path, texts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    to_sentence_model(
        model,
        others=["Dense"],
        config={"prompts": {"query": "q: "}, "similarity_fn_name": "dot", "truncate_dim": 8},
    )
    index = tmp_path / "index"

    cli.ok("index", index, texts, "--model", model, *RUNTIME)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    cli.ok("search", index, "a stone", *RUNTIME)
    cli.ok("index", index, texts, "--model", model, *RUNTIME)

    assert len(said) == 4
    for part in ("module Dense is", "compared by 'dot'", "to 8 dimensions", PROMPTS):
        assert sum(part in one for one in said) == 1
    assert not caplog.records


def test_a_model_that_has_moved_is_named_with_the_option_for_it(
    cli: Cli, model: Path, texts: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    cli.ok("index", index, texts, "--model", model, *RUNTIME)
    moved = model.rename(tmp_path / "moved")
    assert cli.error("search", index, "a stone", *RUNTIME) == (
        f"the index was made with the model in {str(model)!r}, which is not there: if it has "
        "moved, name its folder with --model"
    )
    cli.ok("search", index, "a stone", "--model", moved, *RUNTIME)


def test_a_model_without_anything_to_note_is_silent(
    cli: Cli, model: Path, texts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    to_sentence_model(model, others=["Normalize"], settings={"max_seq_length": 16})

    cli.ok("index", tmp_path / "index", texts, "--model", model, *RUNTIME)

    assert not caplog.records


def test_texts_are_lowered_in_documents_and_queries(
    cli: Cli, model: Path, texts: Path, tmp_path: Path
) -> None:
    change_json(model / "tokenizer.json", normalizer=None)
    to_sentence_model(
        model,
        settings={"do_lower_case": True},
        config={"prompts": {"document": "The: "}, "default_prompt_name": "document"},
    )
    index = tmp_path / "index"
    cli.ok("index", index, texts, "--model", model, *RUNTIME)

    hits = cli.json("search", index, "The Cat Sat", "-k", "3", *RUNTIME)

    assert [round(hit["similarity"], 3) for hit in hits][:2] == [1.0, 1.0]
    assert {hit["text"] for hit in hits[:2]} == {"the cat sat", "THE CAT SAT"}
    assert cli.json("info", index)["template"] == "The: {text}"


@pytest.mark.parametrize("mode", [["cls", "mean"], ["lasttoken"], "weightedmean"])
def test_a_pooling_that_is_not_supported_is_one_error(
    cli: Cli, model: Path, texts: Path, tmp_path: Path, mode: str | list[str]
) -> None:
    to_sentence_model(model, pooling={"pooling_mode": mode})

    said = cli.error("index", tmp_path / "index", texts, "--model", model, *RUNTIME)

    assert "with --pooling" in said
    assert not (tmp_path / "index").exists()
