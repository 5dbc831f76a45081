"""``layerdex compact``, ``verify`` and ``repair``."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from xxhash import xxh3_64

from layerdex import Index
from tests.cli.corpus import DOCUMENTS, EXPORTED
from tests.cli.runner import Cli
from tests.storage.stored import lasting

QUESTION = ("--like", "card-3", "--layer", "all", "-k", 20)


def layer_files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.faiss"))


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def remove(file: Path) -> None:
    file.unlink()


def reason_for(damage: Callable[[Path], None], size: int) -> str:
    reasons: dict[Callable[[Path], None], str] = {
        flip_a_byte: "wrong checksum",
        cut: f"{size - 7} bytes instead of {size}",
        empty: f"0 bytes instead of {size}",
        remove: "missing",
    }
    return reasons[damage]


every_damage = pytest.mark.parametrize("damage", [flip_a_byte, cut, empty, remove])


def test_verify_finds_nothing_wrong(cli: Cli, path: Path) -> None:
    result = cli.ok("verify", path)
    assert (result.stdout, result.stderr) == ("", "No problems found\n")
    assert cli.data("verify", path, "-q") == ""


@every_damage
def test_verify_names_the_damaged_file(
    cli: Cli, path: Path, damage: Callable[[Path], None]
) -> None:
    file = layer_files(path)[5]
    reason = reason_for(damage, file.stat().st_size)
    damage(file)
    result = cli("verify", path)
    assert (result.exit_code, result.stdout) == (1, f"{file}: {reason}\n")
    assert f"run 'layerdex repair {path}'" in result.stderr
    assert result.stderr.count("\n") == 1
    assert cli("verify", path, "-q").stderr == ""


def test_verify_names_every_damaged_file(cli: Cli, path: Path) -> None:
    files = layer_files(path)
    for file in (files[1], files[6], files[11]):
        flip_a_byte(file)
    result = cli("verify", path)
    assert result.exit_code == 1
    assert set(result.stdout.splitlines()) == {
        f"{file}: wrong checksum" for file in (files[1], files[6], files[11])
    }


def damage_a_text(path: Path) -> None:
    with closing(sqlite3.connect(path / "catalog.sqlite3")) as catalog, catalog:
        table = next(
            name
            for (name,) in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if "text" in [column for _, column, *_ in catalog.execute(f"PRAGMA table_info({name})")]
            and catalog.execute(
                f"SELECT 1 FROM {name} WHERE text = ?", (DOCUMENTS[2]["text"],)
            ).fetchall()
        )
        catalog.execute(f"UPDATE {table} SET text = 'x' WHERE text = ?", (DOCUMENTS[2]["text"],))


def test_verify_finds_a_text_that_changed_behind_its_back(cli: Cli, path: Path) -> None:
    damage_a_text(path)
    result = cli("verify", path)
    assert result.exit_code == 1
    assert result.stdout == (
        f"{path}/catalog.sqlite3: wrong checksum\n"
        f"{path}/catalog.sqlite3: the text of document 'card-2' is damaged\n"
    )


def test_repair_leaves_a_damaged_text_to_a_backup(cli: Cli, path: Path) -> None:
    damage_a_text(path)
    result = cli("repair", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == (
        f"Error: the catalog is damaged ({path}/catalog.sqlite3: the text of document 'card-2' "
        "is damaged): restore a backup"
    )


@every_damage
def test_repair_restores_the_bytes_and_the_answers(
    cli: Cli, path: Path, damage: Callable[[Path], None]
) -> None:
    answers = cli.json("search", path, *QUESTION)
    before = {file: file.read_bytes() for file in layer_files(path)}
    damaged = [layer_files(path)[0], layer_files(path)[6]]
    for file in damaged:
        damage(file)
    result = cli.ok("repair", path)
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == "2 layer files rebuilt"
    assert all(str(file) in result.stderr for file in damaged)
    assert {file: file.read_bytes() for file in layer_files(path)} == before
    assert cli.ok("verify", path).stderr == "No problems found\n"
    assert cli.json("search", path, *QUESTION) == answers


def test_repair_restores_a_lost_segment_folder(cli: Cli, path: Path) -> None:
    answers = cli.json("search", path, *QUESTION)
    folder = layer_files(path)[0].parent
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert cli.ok("repair", path, "-q").stderr == ""
    assert cli.json("search", path, *QUESTION) == answers


def test_repair_after_updates_and_deletes(cli: Cli, path: Path) -> None:
    cli.ok("delete", path, "card-0", "rain-5")
    answers = cli.json("search", path, *QUESTION)
    for file in layer_files(path):
        file.unlink()
    cli.ok("repair", path)
    assert cli.json("search", path, *QUESTION) == answers


def test_a_dry_run_of_repair_changes_nothing(cli: Cli, path: Path) -> None:
    file = layer_files(path)[3]
    flip_a_byte(file)
    damaged = file.read_bytes()
    result = cli.ok("repair", path, "--dry-run")
    assert result.stdout == ""
    assert result.stderr.splitlines()[0] == f"{file}: wrong checksum"
    assert file.read_bytes() == damaged
    assert cli("verify", path).exit_code == 1


def test_repair_of_a_whole_index_has_nothing_to_do(cli: Cli, path: Path) -> None:
    before = {file: file.stat().st_ino for file in layer_files(path)}
    result = cli.ok("repair", path)
    assert result.stdout == ""
    assert result.stderr.endswith(" problems found\n")
    assert {file: file.stat().st_ino for file in layer_files(path)} == before


def test_compact_merges_segments_and_keeps_the_answers(cli: Cli, path: Path) -> None:
    answers = cli.json("search", path, *QUESTION)
    result = cli.ok("compact", path)
    assert result.stdout == ""
    assert result.stderr.startswith("3 segments merged; 20 documents in 1 segment")
    assert len(layer_files(path)) == 4
    assert cli.json("search", path, *QUESTION) == answers
    assert cli.jsonl("export", path) == EXPORTED
    assert cli.ok("verify", path).stderr == "No problems found\n"


def test_compact_drops_the_dead(cli: Cli, path: Path) -> None:
    cli.ok("delete", path, "card-0")
    answers = cli.json("search", path, *QUESTION)
    assert cli.json("info", path)["n_dead"] == 1
    cli.ok("compact", path)
    info = cli.json("info", path)
    assert (info["n_documents"], info["n_dead"], info["n_segments"]) == (19, 0, 1)
    assert cli.json("search", path, *QUESTION) == answers


def test_compact_twice_does_nothing_the_second_time(cli: Cli, path: Path) -> None:
    cli.ok("compact", path, "-q")
    before = {file: file.stat().st_ino for file in layer_files(path)}
    assert cli.ok("compact", path).stderr.startswith("0 segments merged; 20 documents in 1 segm")
    assert {file: file.stat().st_ino for file in layer_files(path)} == before


def test_a_dry_run_of_compact_changes_nothing(cli: Cli, path: Path) -> None:
    cli.ok("delete", path, "card-0", "card-1")
    before = lasting(path)
    result = cli.ok("compact", path, "--dry-run")
    assert lasting(path) == before
    n_bytes = sum(file.stat().st_size for file in layer_files(path))
    cli.ok("compact", path)
    n_bytes -= sum(file.stat().st_size for file in layer_files(path))
    assert result.stdout == ""
    assert result.stderr.startswith("3 segments would be merged, leaving 1; 2 dead versions")
    assert f" {n_bytes:,} bytes " in result.stderr


def test_compact_refuses_a_damaged_file(cli: Cli, path: Path) -> None:
    file = layer_files(path)[0]
    flip_a_byte(file)
    message = cli.error("compact", path)
    assert message == f"{file} is damaged (wrong checksum): run 'layerdex repair' on this index"
    assert len(layer_files(path)) == 12


def test_backup_copies_the_index(cli: Cli, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    result = cli.ok("backup", path, target)
    assert (result.stdout, result.stderr) == ("", f"20 documents copied to {target}\n")
    assert cli.ok("export", target).stdout == cli.ok("export", path).stdout
    assert str(target) in cli.error("backup", path, target)


@pytest.mark.parametrize("damage", [empty, cut])
def test_a_torn_seal_is_told_by_verify_and_renewed_by_repair(
    cli: Cli, path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    seal = path / "catalog.sqlite3.crc32"
    damage(seal)
    torn = seal.read_bytes()
    assert cli.ok("verify", path).stderr == "No problems found\n"  # no data is damaged
    assert f"{seal} is not a checksum" in caplog.text
    assert cli.ok("repair", path, "--dry-run").stderr == "0 problems found\n"
    assert seal.read_bytes() == torn
    assert "checksum was renewed" in cli.ok("repair", path).stderr
    sound = xxh3_64((path / "catalog.sqlite3").read_bytes())
    assert seal.read_text().split()[0] == sound.hexdigest()
    caplog.clear()
    cli.ok("verify", path)
    assert caplog.text == ""


def test_restore_replaces_an_index_only_with_force(cli: Cli, path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    cli.ok("backup", path, backup)
    before = cli.ok("export", path).stdout
    cli.ok("delete", path, json.loads(before.splitlines()[0])["id"])
    changed = cli.ok("export", path).stdout
    assert cli.error("restore", backup, path) == (
        f"{path} holds an index: restore to another directory, or replace it with --force"
    )
    assert cli.ok("export", path).stdout == changed != before
    result = cli.ok("restore", backup, path, "--force", "--lock-timeout", "3")
    assert (result.stdout, result.stderr) == ("", f"20 documents restored to {path}\n")
    assert cli.ok("export", path).stdout == before
    cli.ok("restore", backup, tmp_path / "elsewhere")
    assert cli.ok("export", tmp_path / "elsewhere").stdout == before
    assert "holds no index" in cli.error("restore", tmp_path / "nothing", path, "--force")


def test_log_beside_a_catalog_that_was_copied_back_is_refused(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    shutil.copytree(path, tmp_path / "copy")
    with Index.open(path)._open.store.write() as writer:
        writer.delete([json.loads(cli.ok("export", path).stdout.splitlines()[0])["id"]])
        shutil.copytree(path, tmp_path / "killed")
    shutil.copyfile(tmp_path / "copy" / "catalog.sqlite3", tmp_path / "killed" / "catalog.sqlite3")
    for command in ("search", "info", "verify", "export"):
        words = ("word",) if command == "search" else ()
        message = cli.error(command, tmp_path / "killed", *words)
        assert "catalog.sqlite3-wal holds changes to another state" in message
        assert "layerdex restore" in message


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("info", ""), "INDEX"),
        (("index", "", "source.jsonl"), "INDEX"),
        (("restore", "", "INDEX", "--force"), "BACKUP"),
        (("restore", "INDEX", "", "--force"), "INDEX"),
        (("backup", "", "copy"), "INDEX"),
        (("backup", "INDEX", ""), "TARGET"),
        (("export", "INDEX", "-o", ""), "-o"),
        (("demo", ""), "[FOLDER]"),
        (("tune", "INDEX", ""), "ADAPTER"),
    ],
)
def test_variable_that_is_not_set_is_not_the_working_directory(
    cli: Cli, path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], name: str
) -> None:
    monkeypatch.chdir(path)  # where "." is an index
    message = cli.usage(*(str(path) if word == "INDEX" else word for word in words))
    assert message.startswith(f"Invalid value for '{name}")
    assert message.endswith("it is empty: is a shell variable not set?")


def test_restore_keeps_what_is_no_part_of_the_index(cli: Cli, path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    cli.ok("backup", path, backup)
    (path / "cron.log").write_text("mine")
    message = f"{path} also holds 'cron.log': move it away first"
    assert cli.error("restore", backup, path, "--force") == message
    assert (path / "cron.log").read_text() == "mine"
    message = f"{path}/nested is inside the index {path}: choose another directory"
    assert cli.error("restore", backup, path / "nested") == message
    assert cli.error("backup", path, path / "nested") == message
    source = tmp_path / "more.jsonl"
    source.write_text('{"text": "one more"}\n')
    assert cli.error("index", path / "nested", source) == message
    assert not (path / "nested").exists()


def test_index_that_a_link_names_is_used(cli: Cli, path: Path) -> None:
    link = path.with_name("current")
    link.symlink_to(path.name)
    assert cli.ok("export", link).stdout == cli.ok("export", path).stdout
    assert cli.ok("verify", link).stderr == "No problems found\n"


def test_new_index_that_was_not_filled_is_removed_also_behind_a_link(
    cli: Cli, tmp_path: Path
) -> None:
    link, source = tmp_path / "current", tmp_path / "bad.jsonl"
    link.symlink_to("new")
    source.write_text("no json\n")
    cli.error("index", link, source)
    assert link.is_symlink()
    assert not (tmp_path / "new").exists()
