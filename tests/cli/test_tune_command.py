"""``layerdex tune``, and ``index --adapter``."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from layerdex.index.json import output_schema
from tests.cli.corpus import write_jsonl
from tests.cli.runner import Cli
from tests.index.test_tuning import make_documents
from tests.tiny_models import save_tiny_model

pytestmark = [
    pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed"),
    pytest.mark.usefixtures("original_encoder"),
]
TORCH = ("--engine", "torch", "--dtype", "float32")
SHORT = ("--epochs", 2, "--batch", 8, "--rank", 1, "--folds", 4, *TORCH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, documents, a test set and an index."""
    folder = tmp_path_factory.mktemp("tune")
    save_tiny_model("bert", folder / "bert")
    write_jsonl(folder / "docs.jsonl", make_documents(48, seed=0))
    write_jsonl(folder / "test.jsonl", make_documents(12, seed=1))
    given = ("--model", folder / "bert", "--template", "it's {text}", *TORCH, "-q")
    Cli().ok("index", folder / "index", folder / "docs.jsonl", *given)
    return folder


def test_json_says_all_and_the_adapter_makes_an_index(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    adapter, picture, test = tmp_path / "adapter", tmp_path / "loss.png", folder / "test.jsonl"
    found = cli.json(
        "tune", folder / "index", adapter, *SHORT, "--test", test, "--plot", picture, "--layer", 2
    )
    Draft202012Validator(output_schema("tune --json")).validate(found)
    assert found["adapter"] == str(adapter)
    assert (found["layer"], found["n_training"], found["n_held_out"]) == (2, 36, 12)
    assert [epoch["number"] for epoch in found["epochs"]] == [1, 2]
    assert found["share"] == found["n_trained_parameters"] / found["n_parameters"]
    assert (found["measured_on"], found["n_measured"]) == ("test", 12)
    assert [one["layer"] for one in found["layers"]] == [0, 1, 2]
    assert picture.read_bytes().startswith(b"\x89PNG")
    model = ("--model", folder / "bert", "--adapter", adapter, "--template", "it's {text}")
    cli.ok("index", tmp_path / "new", folder / "docs.jsonl", *model, *TORCH, "--layers", "0-2")
    measured = cli.json("evaluate", tmp_path / "new", "--test", test, *TORCH)["layers"]
    after = [one["after"]["accuracy"] for one in found["layers"]]
    assert [one["accuracy"] for one in measured] == after
    assert cli.json("info", tmp_path / "new")["adapter"] == str(adapter)
    assert "\n  adapter " in cli.data("info", tmp_path / "new")
    assert "adapter" not in cli.data("info", folder / "index")
    assert cli.json("info", folder / "index")["adapter"] is None

    # Nothing is left to be encoded, so that no model is loaded to tell.
    again = ("index", tmp_path / "new", folder / "docs.jsonl", "--adapter")
    moved, other = (shutil.copytree(adapter, tmp_path / name) for name in ("moved", "other"))
    cli.ok(*again, moved, *TORCH)
    weights = other / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert cli.error(*again, other, *TORCH) == (
        f"this index was made with adapter '{adapter}', not '{other}': "
        "leave the option out, or make a new index"
    )


def test_tables_name_what_was_trained_and_what_comes_next(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "a b"
    result = cli.ok("tune", folder / "index", adapter, *SHORT, "--loss", "contrastive")
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines[:-2])  # the last name paths
    assert re.fullmatch(
        r"Trained [\d,]+ of [\d,]+ parameters \(\d\.\d\d%\) for layer 4, on 36 documents", lines[0]
    )
    assert "Epochs, with the accuracy on 12 held-out documents" in lines
    assert "12 held-out documents classified by 10 neighbours; they chose the epoch" in lines
    assert sum(line.endswith("kept") for line in lines) == 1
    assert lines[-1] == (
        f"  layerdex index NEW-INDEX SOURCE --layers 0-4 --model {folder}/bert "
        f"--adapter '{adapter}' --pooling mean --template 'it'\"'\"'s {{text}}' --max-length 40"
    )


def test_the_command_that_comes_next_makes_an_index_of_the_same_settings(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    index, model = tmp_path / "index", shutil.copytree(folder / "bert", tmp_path / "bert")
    made = ("--query-template", "q {text}", "--long", "chunk", "--precision", "int8")
    documents = folder / "docs.jsonl"
    cli.ok("index", index, documents, "--model", model, *made, "--layers", "0-2", *TORCH)
    moved = model.rename(tmp_path / "moved")
    shown = cli.ok("tune", index, tmp_path / "a", "--epochs", 1, *SHORT[2:], "--model", moved)
    command = shlex.split(shown.stdout.splitlines()[-1])
    assert command[:4] == ["layerdex", "index", "NEW-INDEX", "SOURCE"]
    cli.ok("index", tmp_path / "new", documents, *command[4:], *TORCH)
    before, after = cli.json("info", index), cli.json("info", tmp_path / "new")
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"adapter", "fingerprint", "model", "size_bytes"}


def test_documents_of_the_test_set_are_said_not_to_be_trained_on(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    asked = write_jsonl(
        tmp_path / "t.jsonl", [*make_documents(9, seed=1), make_documents(48, seed=0)[3]]
    )
    words = ("--epochs", 1, *SHORT[2:], "--test", asked)
    lines = cli.ok("tune", folder / "index", tmp_path / "a", *words).stdout.splitlines()
    assert "1 document whose text is in the test set" in lines[1]
    assert "10 test documents classified by 10 neighbours" in lines


def test_wrong_options_are_refused_before_any_work(cli: Cli, folder: Path, tmp_path: Path) -> None:
    index, adapter = folder / "index", tmp_path / "adapter"
    assert cli.error("tune", index, folder) == (
        f"{folder} exists already: give the adapter a new folder"
    )
    assert "end the name in .png" in cli.error("tune", index, adapter, "--plot", "a.gif")
    assert "is inside the index" in cli.error("tune", index, index / "adapter")
    assert "learning_rate must be between" in cli.error("tune", index, adapter, "--rate", 2)
    assert cli.error("index", index, folder / "docs.jsonl", "--adapter", adapter) == (
        f"this index was made with adapter 'none', not '{adapter}': "
        "leave the option out, or make a new index"
    )
    assert not adapter.exists()
