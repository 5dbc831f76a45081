"""What the command says of a model's sentence-transformers files, and when."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.indexer.models import file_digests
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


AUTO = ("--device", "cpu", "--dtype", "float32")


@pytest.mark.parametrize("runtime", [AUTO, RUNTIME], ids=["auto", "torch"])
def test_another_model_with_equal_times_neither_answers_nor_adds(
    runtime: tuple[str, ...],
    cli: Cli,
    model: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_digests, "_LEAST_BYTES", 0)
    monkeypatch.setattr(file_digests, "_RACY_NS", 0)
    index = tmp_path / "index"
    cli.ok("index", index, texts, "--model", model, *runtime)
    before = cli.json("search", index, "a stone", *runtime)
    other = save_tiny_model("bert", tmp_path / "other", seed=4) / "model.safetensors"
    weights = model / "model.safetensors"
    shutil.copystat(weights, other)
    assert other.stat().st_size == weights.stat().st_size
    own = weights.read_bytes()

    subprocess.run(["cp", "-p", other, weights], check=True)
    more = tmp_path / "more.txt"
    more.write_text("another text\n")
    for words in (("search", index, "a stone"), ("index", index, more)):
        assert "made with another version of the model" in cli.error(*words, *runtime)

    weights.write_bytes(own)
    assert cli.json("search", index, "a stone", *runtime) == before
    assert len(Index.open(index)) == 3


def test_no_damage_of_the_cache_changes_an_answer_or_is_an_error(
    cli: Cli, model: Path, texts: Path, tmp_path: Path
) -> None:
    index, cache = tmp_path / "index", Path(os.environ["XDG_CACHE_HOME"])
    cli.ok("index", index, texts, "--model", model, *AUTO)
    expected = cli.json("search", index, "a stone", *AUTO)
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert len(files) >= 7

    for path in files:
        content = bytearray(path.read_bytes()) if path.exists() else bytearray(1)
        content[-2:] = b"\0\0"
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        assert cli.json("search", index, "a stone", *AUTO) == expected
