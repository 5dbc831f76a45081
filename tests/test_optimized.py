"""Python's own options: -O changes nothing, and -OO is refused where transformers is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_models import save_tiny_model

REFUSED = (
    "Error: transformers does not work without docstrings, which python -OO and PYTHONOPTIMIZE=2 "
    "remove: use -O or neither (a model that OpenVINO has already converted needs no "
    "transformers)\n"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("bert", tmp_path_factory.mktemp("model"))


def layerdex(option: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, option, "-m", "layerdex", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_without_docstrings_one_line_says_what_to_do(
    engine: str, model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "texts.txt"
    source.write_text("the cat sat on the mat\n")
    words = ("index", tmp_path / "index", source, "--model", model, "--engine", engine)
    result = layerdex("-OO", *words)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", REFUSED)
    assert not (tmp_path / "index").exists()


def test_without_asserts_a_bad_row_is_still_refused_and_a_good_one_found(
    model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text('{"id": "a", "text": "the cat sat on the mat"}\n{"id": "b", "text": 7}\n')
    words = ("index", tmp_path / "index", source, "--model", model, "--engine", "torch")
    failed = layerdex("-O", *words)
    assert failed.returncode == 1
    assert "texts.jsonl:2" in failed.stderr
    assert layerdex("-O", *words, "--on-error", "skip").returncode == 0
    found = layerdex("-O", "search", tmp_path / "index", "a cat", "--engine", "torch", "--jsonl")
    assert '"id": "a"' in found.stdout
