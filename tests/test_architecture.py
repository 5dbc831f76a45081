from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from scripts.draw_architecture import FILES, ROOMS, describe, draw, read_description
from scripts.imports import (
    FLOORS,
    FOUNDATIONS,
    Import,
    external_imports,
    find_circles,
    find_upward,
    list_modules,
    module_graph,
    package_graph,
    package_of,
    read_imports,
    room_graph,
    room_of,
)

LIGHT = ("arguments", "choices", "errors", "layers", "limits", "options", "terminals", "wording")


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return read_imports()


def test_every_room_is_on_a_floor_and_every_floor_exists() -> None:
    rooms = {room for floor in FLOORS for room in floor}
    assert {room_of(module) for module in list_modules()} == rooms


def test_no_files_import_each_other_in_a_circle(imports: list[Import]) -> None:
    assert find_circles(module_graph(imports)) == []


def test_no_packages_import_each_other_in_a_circle(imports: list[Import]) -> None:
    assert find_circles(package_graph(imports)) == []


def test_imports_only_point_down_the_floors(imports: list[Import]) -> None:
    assert [str(each) for each in find_upward(imports)] == []


def test_search_and_indexer_do_not_know_each_other(imports: list[Import]) -> None:
    rooms = room_graph(imports)
    assert "indexer" not in rooms["search"]
    assert "search" not in rooms["indexer"]


def test_the_command_line_reaches_rooms_below_through_the_facade(imports: list[Import]) -> None:
    assert not room_graph(imports)["cli"] & {"indexer", "storage", "sklearn"}


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_file_needs_the_standard_library_only(name: str, imports: list[Import]) -> None:
    assert external_imports(f"layerdex.{name}", imports) <= sys.stdlib_module_names


def test_every_package_says_what_it_is_for() -> None:
    packages = [path for path in list_modules().values() if path.name == "__init__.py"]
    silent = [str(path) for path in packages if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_the_committed_picture_shows_the_imports_of_today() -> None:
    assert read_description() == describe(), "run python -m scripts.draw_architecture"


def test_the_picture_has_a_place_for_every_room() -> None:
    entries = {"__main__", "__init__"}
    assert ROOMS.keys() | FILES.keys() | entries == {room for floor in FLOORS for room in floor}
    assert FILES.keys() == set(FOUNDATIONS)


@pytest.mark.soak
def test_the_same_source_draws_the_same_bytes(tmp_path: Path) -> None:
    draw(tmp_path / "first.svg")
    draw(tmp_path / "second.svg")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
    assert read_description(tmp_path / "first.svg") == describe()


def plant(root: Path, **sources: str) -> list[Import]:
    """Write a package of files, `search__knn` being `search/knn.py`, and read its imports."""
    for name, source in sources.items():
        path = root / "layerdex" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        for folder in path.parents:
            if folder == root:
                break
            folder.joinpath("__init__.py").touch()
    return read_imports(root)


@pytest.mark.parametrize(
    "source",
    [
        "import layerdex.storage.store",
        "from layerdex.storage import store",
        "from layerdex.storage.store import Store",
        "from . import store",
        "from .store import Store",
        "def load():\n    from layerdex.storage.store import Store",
        "if TYPE_CHECKING:\n    from layerdex.storage.store import Store",
        "import_module('layerdex.storage.store')",
        "importlib.import_module(f'layerdex.storage.{name}')",
    ],
)
def test_a_planted_circle_of_files_is_found(source: str, tmp_path: Path) -> None:
    imports = plant(
        tmp_path,
        storage__store="from layerdex.storage.writer import Writer",
        storage__writer="from layerdex.storage.seal import seal",
        storage__seal=source,
    )
    circle = ["layerdex.storage.seal", "layerdex.storage.store", "layerdex.storage.writer"]
    assert circle in find_circles(module_graph(imports))


def test_a_planted_circle_of_packages_without_one_of_files_is_found(tmp_path: Path) -> None:
    imports = plant(
        tmp_path,
        search__knn__scan="from layerdex.search.labels import head",
        search__knn__vote="",
        search__labels__head="",
        search__labels__probe="from layerdex.search.knn.vote import vote",
    )
    assert find_circles(module_graph(imports)) == []
    assert find_circles(package_graph(imports, tmp_path)) == [
        ["layerdex.search.knn", "layerdex.search.labels"]
    ]


def test_a_circle_between_a_file_of_a_room_and_a_sub_package_is_found(tmp_path: Path) -> None:
    imports = plant(
        tmp_path,
        storage__catalog__rows="from layerdex.storage.snapshot import Snapshot",
        storage__catalog__engine="",
        storage__snapshot="from layerdex.storage.catalog.engine import open_catalog",
    )
    assert find_circles(package_graph(imports, tmp_path)) == [
        ["layerdex.storage.catalog", "layerdex.storage.snapshot"]
    ]


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("storage__store", "search.results"),
        ("search__results", "indexer.encoder"),
        ("indexer__encoder", "search.results"),
        ("index__facade", "cli.main"),
        ("index__facade", "sklearn"),
        ("layers", "storage.store"),
    ],
)
def test_a_planted_upward_or_sideways_import_is_found(
    importer: str, imported: str, tmp_path: Path
) -> None:
    files = {importer: f"import layerdex.{imported}", imported.replace(".", "__"): ""}
    module = f"layerdex.{importer.replace('__', '.')}"
    assert find_upward(plant(tmp_path, **files)) == [Import(module, f"layerdex.{imported}", 1)]


def test_downward_imports_and_those_within_a_room_are_allowed(tmp_path: Path) -> None:
    imports = plant(
        tmp_path,
        cli__main="import layerdex.index.facade, layerdex.errors",
        index__facade="import layerdex.search.results, layerdex.index.view",
        index__view="import layerdex.storage.store",
        search__results="import layerdex.layers",
        storage__store="",
        layers="import layerdex.errors",
        errors="",
    )
    assert find_upward(imports) == []


def test_an_indirect_import_of_numpy_is_found(tmp_path: Path) -> None:
    imports = plant(
        tmp_path,
        layers="from layerdex import arguments",
        arguments="def check():\n    import numpy.linalg as la",
    )
    assert external_imports("layerdex.layers", imports) == {"numpy"}


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("layerdex.storage.catalog.migrations.env", "layerdex.storage.catalog"),
        ("layerdex.storage.catalog", "layerdex.storage.catalog"),
        ("layerdex.storage.store", "layerdex.storage.store"),
        ("layerdex.indexer.engines.torch.engine", "layerdex.indexer.engines.torch"),
        ("layerdex.indexer.engines.factory", "layerdex.indexer.engines.factory"),
        ("layerdex.layers", "layerdex.layers"),
    ],
)
def test_the_package_of_a_module(module: str, package: str) -> None:
    assert package_of(module) == package
