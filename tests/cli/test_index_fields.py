"""Names of fields and forms of dates on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.runner import Cli

CSV = "Nr;Betreff;Kategorie;Datum\n007;a b;x;01.06.2026\n008;c d;y;02.06.2026\n"
NAMES = ("--text-field", "Betreff", "--id-field", "Nr", "--label-field", "Kategorie")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def tickets(cli: Cli, tmp_path: Path, table: Path) -> Path:
    path = tmp_path / "tickets"
    assert cli("index", path, table, *NAMES, "--date-format", "Datum=%d.%m.%Y").exit_code == 0
    return path


def test_options_of_the_first_run_are_those_of_the_next(
    cli: Cli, tickets: Path, table: Path
) -> None:
    table.write_text(CSV + "009;e f;x;03.06.2026\n")
    assert cli.json("index", tickets, table)["n_new"] == 1
    assert [row["id"] for row in cli.jsonl("export", tickets)] == ["007", "008", "009"]


def test_info_shows_them(cli: Cli, tickets: Path) -> None:
    info = cli.json("info", tickets)
    fields = {"text": "Betreff", "id": "Nr", "label": "Kategorie", "metadata": None}
    assert (info["source_fields"], info["date_formats"]) == (fields, {"Datum": "%d.%m.%Y"})
    shown = " ".join(cli("info", tickets).stdout.split())
    assert "text: Betreff; id: Nr; label: Kategorie; metadata: all others" in shown
    assert "Datum=%d.%m.%Y" in shown


def test_defaults_are_declared_without_a_source(cli: Cli, tickets: Path) -> None:
    result = cli("index", tickets, "--text-field", "Text", "--date-format", "Ende=%Y/%m/%d")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"Stored the defaults of later runs: see 'layerdex info {tickets}'\n"
    info = cli.json("info", tickets)
    assert info["source_fields"]["text"] == "Text"
    assert info["source_fields"]["id"] == "Nr"
    assert info["date_formats"] == {"Datum": "%d.%m.%Y", "Ende": "%Y/%m/%d"}


def test_without_a_source_something_must_be_declared(cli: Cli, tickets: Path) -> None:
    result = cli("index", tickets)
    assert result.exit_code == 2
    assert "give at least one SOURCE, or - for standard input" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--dry-run"],
        ["--sync"],
        ["--model", "foo"],
        ["--layers", "3"],
        ["--rejects", "x"],
        ["--force"],
        ["--no-auto-compact"],
        ["--json"],
        ["--delimiter", ";"],
    ],
)
def test_without_a_source_no_option_is_ignored(cli: Cli, tickets: Path, words: list[str]) -> None:
    said = cli.usage("index", tickets, "--text-field", "Text", *words)
    option = "--auto-compact" if words == ["--no-auto-compact"] else words[0]
    assert said.startswith(f"{option} requires a SOURCE: without one, only names")
    assert cli.json("info", tickets)["source_fields"]["text"] == "Betreff"
    assert cli("index", tickets, "--text-field", "Text", "-q", "--lock-timeout", 1).exit_code == 0


def test_a_first_run_without_ids_and_labels_names_the_other_fields(
    cli: Cli, tmp_path: Path, table: Path
) -> None:
    def notes(name: str, source: Path, *words: str) -> str:
        return cli.ok("index", tmp_path / name, source, *words).stderr

    said = "Ids are made from the texts, and there are no labels"
    first = notes("new", table, "--text-field", "Betreff")
    assert f"{said}: name their fields with --id-field and --label-field" in first
    assert "(other fields: Datum, Kategorie, Nr)" in first
    assert said not in notes("new", table)
    assert said not in notes("named", table, *NAMES)
    assert said not in notes("ids", table, *NAMES[:4])
    lines = tmp_path / "lines.txt"
    lines.write_text("a b\nc d\n")
    assert said not in notes("lines", lines)


def test_nothing_is_declared_of_an_index_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    result = cli("index", tmp_path / "none", "--text-field", "Text")
    assert result.exit_code == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("value", ["Datum", "=%d.%m.%Y", "Datum="])
def test_a_date_format_names_field_and_form(
    cli: Cli, tickets: Path, table: Path, value: str
) -> None:
    result = cli("index", tickets, table, "--date-format", value)
    assert result.exit_code == 2
    assert "is not FIELD=FORMAT" in result.stderr


def test_a_form_that_reads_no_date_leaves_no_index(cli: Cli, tmp_path: Path, table: Path) -> None:
    path = tmp_path / "new"
    result = cli("index", path, table, *NAMES, "--date-format", "Datum=%d")
    assert result.exit_code == 1
    assert "needs a year (%Y) and a month (%m)" in result.stderr
    assert not path.exists()


def test_a_forgotten_id_field_is_an_error_before_anything_is_written(
    cli: Cli, tmp_path: Path, table: Path
) -> None:
    path = tmp_path / "plain"
    table.write_text("id,text\n1,a\n")
    cli("index", path, table)
    table.write_text("key,text\n1,a\n2,b\n")
    result = cli("index", path, table)
    assert result.exit_code == 1
    assert "--id-field, or add --mix-ids" in result.stderr
    assert len(cli.jsonl("export", path)) == 1
    assert cli.json("index", path, table, "--mix-ids")["n_new"] == 2
