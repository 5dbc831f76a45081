"""A cache of converted graphs: a conversion takes seconds."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.indexer.conftest import TinyModel
from tests.indexer.openvino.graphs import cached_folder, load
from tests.tiny_models import save_tiny_model


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of converted graphs that these tests share: a conversion takes seconds."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="session")
def _another_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("bert", tmp_path_factory.mktemp("another"), seed=7)


@pytest.fixture
def another_bert(_shared_cache: None, _another_bert: Path) -> Path:
    """A BERT with other weights; a test asks for it before `own_copy`, which holds its graph."""
    load(_another_bert)
    return _another_bert


@pytest.fixture
def own_copy(
    tiny_model: TinyModel, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The cached graph of the tiny BERT in a cache of the test's own, to be changed at will."""
    load(tiny_model("bert"))
    cache = shutil.copytree(converted, tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cached_folder(tiny_model("bert"))


@pytest.fixture(autouse=True)
def _shared_cache(
    _own_cache: None, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(converted))
    yield
    assert "openvino_telemetry" not in sys.modules or sys.modules["openvino_telemetry"] is None
