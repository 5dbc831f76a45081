"""A flipped byte or a cut anywhere in an index: it is found, and never a wrong answer."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index, LabelTask
from layerdex.errors import DamagedIndexError, LayerdexError
from tests.encoders import WordEncoder
from tests.results import by_layer, first, hits_by_layer
from tests.storage.corpora import flip_byte, rows
from tests.storage.stored import layer_paths

N_DAMAGES = 100  # the soak makes ten times as many


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five segments with dead versions and updates, one of them compacted."""
    path = tmp_path_factory.mktemp("sound") / "index"
    index = Index.create(path, model=WordEncoder())
    index.add(rows(20))
    index.delete("d3", "d11")
    index.compact()
    index.add([*rows(8, start=30), {"id": "d5", "text": "text number5 again", "label": "l9"}])
    index.delete("d31")
    index.save_best(index.evaluate(LabelTask(k=1)))
    return path


def _answers(path: Path) -> list[Any]:
    """Ask every kind of question that reads files in its own way."""
    index = Index.open(path, encoder=WordEncoder())
    return [
        by_layer(index.search(["text number5 of 0"], layer="all", k=30)),
        first(index.search("text number7 of 2", k=5, where="label=l1")),
        first(index.search("text number7 of 2", k=5, where="size>15")),
        hits_by_layer(index.search_like("d6", k=4)),
        index.classify(["text number8 of 3"], k=3),
        index.deduplicate(threshold=0.8),
        [(one.layer, one.values) for one in index.evaluate(LabelTask(k=3)).scores],
        list(index.documents()),
    ]


def _flip(path: Path, draw: random.Random) -> None:
    flip_byte(path, draw.randrange(path.stat().st_size))


def _cut(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


@pytest.fixture
def n_damages(pytestconfig: pytest.Config) -> int:
    return N_DAMAGES * (10 if pytestconfig.getoption("--soak") else 1)


def test_damage_anywhere_is_found_and_never_answers_wrongly(
    sound: Path, memory_folder: Path, n_damages: int
) -> None:
    draw = random.Random(4)
    expected = _answers(sound)
    files = [Path("catalog.sqlite3"), *(file.relative_to(sound) for file in layer_paths(sound))]
    sizes = [(sound / file).stat().st_size for file in files]
    path = memory_folder / "index"
    for _ in range(n_damages):
        (file,) = draw.choices(files, sizes)
        damage: Callable[[Path, random.Random], None] = draw.choice([_flip, _flip, _flip, _cut])
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(sound, path)
        damage(path / file, draw)
        with pytest.raises(LayerdexError, match=r"damaged|restore|repair"):
            _answers(path)
        _check_found_and_repaired(path, file, expected)


def _check_found_and_repaired(path: Path, file: Path, expected: list[Any]) -> None:
    try:
        index = Index.open(path, encoder=WordEncoder(), damaged=True)
        problems = index.verify()
    except DamagedIndexError:
        assert file.name == "catalog.sqlite3"
        return
    assert [problem.path.name for problem in problems]
    if file.name != "catalog.sqlite3":
        assert {problem.path for problem in problems} == {path / file}
        assert index.repair(problems) == 1
        assert _answers(path) == expected


def test_catalog_damaged_after_a_kill_never_answers_wrongly(
    sound: Path, memory_folder: Path, n_damages: int
) -> None:
    """Without a seal, digests protect everything that a search without a filter reads."""
    draw = random.Random(5)
    path = memory_folder / "index"

    def answers() -> list[Any]:
        index = Index.open(path, encoder=WordEncoder())
        return [
            by_layer(index.search(["text number5 of 0"], layer="all", k=30)),
            hits_by_layer(index.search_like("d6", k=4)),
        ]

    shutil.copytree(sound, path)
    expected, n_wrong, n_refused = answers(), 0, 0
    for _ in range(n_damages // 2):
        shutil.rmtree(path)
        shutil.copytree(sound, path)
        (path / "catalog.sqlite3.crc32").unlink()
        _flip(path / "catalog.sqlite3", draw)
        try:
            n_wrong += answers() != expected
        except LayerdexError:
            n_refused += 1
    assert n_wrong == 0
    assert n_refused > 0


@pytest.mark.parametrize("swap", ["layers", "segments"])
def test_swapped_files_are_found(sound: Path, tmp_path: Path, swap: str) -> None:
    path = tmp_path / "index"
    shutil.copytree(sound, path)
    first, second, *_ = sorted((path / "segments").iterdir())
    if swap == "layers":
        one, other = first / "layer-01.faiss", first / "layer-02.faiss"
    else:
        one, other = first / "layer-01.faiss", second / "layer-01.faiss"
    aside = one.rename(tmp_path / "aside")
    other.rename(one)
    aside.rename(other)
    with pytest.raises(DamagedIndexError):
        _answers(path)
    index = Index.open(path, encoder=WordEncoder(), damaged=True)
    assert {problem.path for problem in index.verify()} == {one, other}
