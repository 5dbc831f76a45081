"""Folders that hold no index, or a broken one: one clear line from every command."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from layerdex import Index
from tests.cli.runner import Cli

QUESTIONS = [
    ("search", "a card"),
    ("search", "--like", "card-1"),
    ("classify", "a card"),
    ("evaluate",),
    ("dedup",),
    ("get", "card-1"),
    ("delete", "card-1"),
    ("export",),
    ("info",),
    ("info", "--truncated"),
    ("compact",),
    ("verify",),
    ("repair",),
]
every_question = pytest.mark.parametrize(("command", "rest"), [(q[0], q[1:]) for q in QUESTIONS])


def damage_catalog(path: Path) -> Path:
    catalog = path / "catalog.sqlite3"
    for file in path.glob("catalog.sqlite3-*"):
        file.unlink()
    catalog.write_bytes(b"this is no database" * 1000)
    return catalog


@every_question
def test_a_missing_folder_holds_no_index(
    cli: Cli, tmp_path: Path, command: str, rest: tuple[str, ...]
) -> None:
    message = cli.error(command, tmp_path / "nowhere", *rest)
    assert message == f"{tmp_path}/nowhere holds no index: there is no such directory"
    assert not (tmp_path / "nowhere").exists()


def test_a_file_holds_no_index(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "cards.jsonl").touch()
    message = cli.error("search", tmp_path / "cards.jsonl", "a card")
    assert message == f"{tmp_path}/cards.jsonl holds no index: it is not a directory"


@every_question
def test_another_folder_holds_no_index(
    cli: Cli, tmp_path: Path, command: str, rest: tuple[str, ...]
) -> None:
    message = cli.error(command, tmp_path, *rest)
    assert message == f"{tmp_path} holds no index (no catalog.sqlite3 in it)"


@every_question
def test_a_catalog_of_garbage_must_come_from_a_backup(
    cli: Cli, path: Path, command: str, rest: tuple[str, ...]
) -> None:
    catalog = damage_catalog(path)
    assert cli.error(command, path, *rest) == (
        f"the catalog {catalog} is damaged (file is not a database): restore it from a backup"
    )


@every_question
def test_a_newer_schema_needs_a_newer_layerdex(
    cli: Cli, path: Path, command: str, rest: tuple[str, ...]
) -> None:
    with closing(sqlite3.connect(path / "catalog.sqlite3")) as catalog, catalog:
        catalog.execute("UPDATE alembic_version SET version_num = '9999'")
    assert cli.error(command, path, *rest) == (
        "this index has schema 9999, and this version of Layerdex reads 0004: use a newer Layerdex"
    )


def test_info_answers_with_a_warning_where_the_best_layer_is_damaged(cli: Cli, path: Path) -> None:
    before = cli.json("info", path)
    with closing(sqlite3.connect(path / "catalog.sqlite3")) as connection, connection:
        connection.execute("UPDATE setting SET value = '[]' WHERE key = 'best_layer'")
    result = cli.ok("info", path, "--json")
    assert {**json.loads(result.stdout), "size_bytes": 0} == {**before, "size_bytes": 0}
    assert "is damaged (wrong checksum)" in result.stderr
    [line] = [line for line in cli.ok("info", path).stdout.splitlines() if "best layer" in line]
    assert line.split() == ["best", "layer", "damaged"]
    assert Index.open(path, damaged=True).info().damaged == ("best_layer",)


def test_an_empty_catalog_is_damaged(cli: Cli, path: Path) -> None:
    damage_catalog(path).write_bytes(b"")
    assert "is damaged" in cli.error("info", path)


def test_index_does_not_extend_a_catalog_of_garbage(cli: Cli, path: Path, source: Path) -> None:
    catalog = damage_catalog(path)
    before = catalog.read_bytes()
    assert f"the catalog {catalog} is damaged" in cli.error("index", path, source)
    assert catalog.read_bytes() == before


def test_index_does_not_touch_a_folder_of_other_files(
    cli: Cli, tmp_path: Path, source: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.png").write_bytes(b"meow")
    assert cli.error("index", folder, source, "-q") == (
        f"{folder} is not an index and not empty (it holds 'cat.png'): choose another directory"
    )
    assert [one.name for one in folder.iterdir()] == ["cat.png"]


def test_index_does_not_take_a_file_for_an_index(cli: Cli, source: Path) -> None:
    message = cli.error("index", source, source, "-q")
    assert message == f"{source} is a file, not a directory for an index"
    assert source.stat().st_size > 0


@pytest.mark.parametrize("damage", ["missing", "cut"])
@pytest.mark.parametrize(
    ("command", "rest"),
    [(q[0], q[1:]) for q in QUESTIONS if q[0] in ("search", "classify", "evaluate", "dedup")],
)
def test_a_missing_or_cut_layer_file_sends_to_repair(
    cli: Cli, path: Path, damage: str, command: str, rest: tuple[str, ...]
) -> None:
    file = sorted(path.rglob("layer-03.faiss"))[0]
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    message = cli.error(command, path, *rest)
    assert str(file) in message
    assert message.endswith("run 'layerdex repair' on this index")


@pytest.mark.parametrize(
    ("command", "rest"),
    [("get", ("card-1",)), ("export", ()), ("info", ("--json",)), ("delete", ("card-1",))],
)
def test_what_needs_no_vectors_works_without_them(
    cli: Cli, path: Path, command: str, rest: tuple[str, ...]
) -> None:
    sound = cli.ok("export", path).stdout
    sorted(path.rglob("layer-03.faiss"))[0].unlink()
    result = cli.ok(command, path, *rest)
    if command == "export":
        assert result.stdout == sound
    if command == "info":
        assert "Damaged: " in result.stderr
        assert "run 'layerdex repair' on this index" in result.stderr


@pytest.mark.parametrize(
    ("command", "rest"), [("search", ("a card",)), ("evaluate", ()), ("dedup", ())]
)
def test_a_changed_byte_is_found_before_an_answer(
    cli: Cli, path: Path, command: str, rest: tuple[str, ...]
) -> None:
    file = sorted(path.rglob("layer-03.faiss"))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    message = cli.error(command, path, *rest)
    assert message == (f"{file} is damaged (wrong checksum): run 'layerdex repair' on this index")


def test_repair_fills_a_segments_folder_that_is_gone(cli: Cli, path: Path) -> None:
    before = {file: file.read_bytes() for file in path.rglob("*.faiss")}
    shutil.rmtree(path / "segments")
    assert "run 'layerdex repair" in cli("verify", path).stderr
    cli.ok("repair", path)
    assert {file: file.read_bytes() for file in path.rglob("*.faiss")} == before
    cli.ok("verify", path)


def test_export_saves_what_a_catalog_with_a_lost_row_still_has(cli: Cli, path: Path) -> None:
    with closing(sqlite3.connect(path / "catalog.sqlite3")) as connection, connection:
        connection.execute("DELETE FROM document WHERE id = 'card-1'")
    whole = cli.error("search", path, "--like", "card-2")
    assert "wrong checksum" in whole
    result = cli.ok("export", path)
    assert result.stderr == f"Damaged: {whole}\n"
    assert '"card-1"' not in result.stdout
    assert '"card-2"' in result.stdout


@pytest.mark.parametrize(
    ("command", "rest"),
    [("get", ("card-1",)), ("delete", ("card-1",)), ("delete", ("card-1", "--dry-run"))],
)
def test_a_changed_catalog_says_of_no_document_that_it_is_not_there(
    cli: Cli, path: Path, command: str, rest: tuple[str, ...]
) -> None:
    with closing(sqlite3.connect(path / "catalog.sqlite3")) as connection, connection:
        connection.execute("DELETE FROM document WHERE id = 'card-1'")
    assert "wrong checksum" in cli.error(command, path, *rest)


def test_truncated_texts_of_a_changed_catalog_come_with_a_warning(cli: Cli, path: Path) -> None:
    with closing(sqlite3.connect(path / "catalog.sqlite3")) as connection, connection:
        connection.execute("DELETE FROM document WHERE id = 'card-1'")
    assert "wrong checksum" in cli.ok("info", path, "--truncated").stderr
