"""Tiny models, each built once a session; torch is imported only by the tests that use one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_models import save_tiny_model

TinyModel = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """The folder of a family's tiny model, shared: not to be changed."""
    built: dict[str, Path] = {}

    def build(family: str) -> Path:
        if family not in built:
            built[family] = save_tiny_model(family, tmp_path_factory.mktemp(family))
        return built[family]

    return build


@pytest.fixture
def bert(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A tiny BERT of the test's own, to be damaged at will."""
    return Path(shutil.copytree(tiny_model("bert"), tmp_path / "bert"))
