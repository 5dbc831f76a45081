"""What a person at a terminal sees: 80 columns, no escape sequences, nothing raw."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.cells import cell_len

from layerdex import Index
from layerdex.options import EncoderOptions
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer

Wide = tuple[str, Path]

ESCAPES = "\x1b[31m\x1b]0;owned\x07\x9b2J\r\x08\u202e\u200b"
LONG = "reviews/2024/07/a-very-long-identifier-that-nobody-can-read-or-would-want-to/0000017"
TABLES = [
    ["search", "INDEX", "battery"],
    ["search", "INDEX", "battery", "--layer", "0,3"],
    ["search", "INDEX", "battery", "--layer", "all"],
    ["search", "INDEX", "--like", "ID"],
    ["classify", "INDEX", "battery", "TEXT"],
    ["evaluate", "INDEX"],
    ["evaluate", "INDEX", "-k", "1,2,3,5,8,13"],
    ["evaluate", "INDEX", "--report"],
    ["dedup", "INDEX", "--threshold", "0.3"],
    ["info", "INDEX"],
]
every_table = pytest.mark.parametrize("words", TABLES, ids=" ".join)


def make_index(folder: Path, rows: list[dict[str, Any]], *, template: str = "{text}") -> Path:
    Index.create(folder / "made", model=WordTransformer(EncoderOptions(template=template))).add(
        rows
    )
    return folder / "made"


def run(cli: Cli, words: list[str], **given: object) -> Result:
    return cli.ok(*[given.get(word, word) for word in words])


def raw(shown: str) -> set[str]:
    """Return the control and format characters in what was shown, line ends aside."""
    return {c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs"}} - {"\n"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose every text, id, label and metadata value holds escape sequences."""
    rows = [
        {
            "id": f"{ESCAPES}{i}",
            "text": f"{ESCAPES} battery {ESCAPES} number {i}\n{ESCAPES}",
            "label": f"{ESCAPES}{i % 2}",
            "field": ESCAPES,
        }
        for i in range(6)
    ]
    return make_index(tmp_path_factory.mktemp("hostile"), rows, template=f"{ESCAPES}{{text}}")


@pytest.fixture(scope="module", params=["battery", "电池坏了"])
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Wide:
    """A word, and an index of it with long ids, labels and texts."""
    word: str = request.param
    rows = [
        {
            "id": f"{word}/{LONG}{i}",
            "text": f"{word} " * 12 + f"x{'y' * 200}{i}",
            "label": f"{word} {LONG} {i % 2}",
        }
        for i in range(6)
    ]
    return word, make_index(tmp_path_factory.mktemp("wide"), rows)


@every_table
def test_escape_sequences_of_documents_never_reach_the_terminal(
    cli: Cli, hostile: Path, words: list[str]
) -> None:
    result = run(cli, words, INDEX=hostile, ID=f"{ESCAPES}3", TEXT=f"x {ESCAPES}")
    assert raw(result.stdout) | raw(result.stderr) == set()
    assert "battery" in result.stdout or words[0] in {"evaluate", "info"}


@pytest.mark.parametrize(
    "words",
    [
        ["search", "INDEX", f"x {ESCAPES}", "--where", "id=nobody"],
        ["search", "INDEX", "--like", f"{ESCAPES}x"],
        ["get", "INDEX", f"{ESCAPES}x"],
        ["delete", "INDEX", f"{ESCAPES}x"],
        ["search", "INDEX", "x", "--where", f"{ESCAPES}=1"],
        ["search", "INDEX", "x", "--layer", ESCAPES],
        ["delete", "INDEX", f"{ESCAPES}1", "--dry-run"],
    ],
)
def test_escape_sequences_never_reach_the_terminal_by_notes_and_errors(
    cli: Cli, hostile: Path, words: list[str]
) -> None:
    result = cli(*[hostile if word == "INDEX" else word for word in words])
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert raw(result.stderr) == set()


def test_a_folder_with_hostile_file_names_is_named_safely(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "a\x1b[31m\nb.txt").write_bytes(b"\xff\xfe\xff")
    message = cli.error("index", tmp_path / "new", folder, "-q")
    assert message.endswith(": not UTF-8 text")
    assert raw(message) == set()


def test_markup_and_emoji_names_of_texts_are_shown_as_they_are(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {"id": "[red]id[/red]", "text": "a [bold]battery[/bold] :smile: [/]", "label": "[b]x"},
        {"id": "[/]", "text": "another one [link=x]", "label": ":bug:"},
    ]
    index = make_index(tmp_path, rows)
    for words in (["search", index, "[/] a"], ["classify", index, "[/] a"]):
        shown = cli.data(*words)
        for part in ("[red]id[/red]", "[b]x", ":bug:", "[/] a"):
            assert part in shown
    assert "a [bold]battery[/bold] :smile: [/]" in cli.data("search", index, "[/] a")
    assert "[b]x (1)" in cli.data("info", index)


@every_table
def test_tables_fit_80_columns(cli: Cli, wide: Wide, words: list[str]) -> None:
    word, index = wide
    given = {"INDEX": index, "ID": f"{word}/{LONG}2", "TEXT": word * 100}
    lines = run(cli, words, **given).stdout.splitlines()
    report = next((i for i, line in enumerate(lines) if line.startswith("Layer ")), len(lines))
    table = [line for line in lines[:report] if line.startswith(" ")]
    assert len(table) > 5
    assert max(map(cell_len, table)) <= 80


@pytest.mark.parametrize("words", [TABLES[0], TABLES[3]], ids=" ".join)
def test_ids_are_shown_whole(cli: Cli, tmp_path: Path, words: list[str]) -> None:
    rows = [{"id": f"{LONG}{i}", "text": f"battery {i}"} for i in range(3)]
    index = make_index(tmp_path, rows)
    shown = run(cli, words, INDEX=index, ID=f"{LONG}0").stdout
    assert f"{LONG}1" in "".join(shown.split())


def test_a_wide_terminal_is_used(cli: Cli, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = cli.data("search", shared, "card", "--layer", "all")
    assert 80 < max(len(line) for line in shown.splitlines()) <= 200


@pytest.mark.parametrize("columns", ["0", "1", "20", "abc"])
def test_a_table_on_no_width_is_still_a_table(
    cli: Cli, shared: Path, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = cli.data("search", shared, "my card", "-k", "1")
    assert "id and" in shown
    assert "card" in shown.splitlines()[4]
    assert not [line for line in shown.splitlines() if line.endswith(" ")]


def test_a_mistyped_command_is_guessed(cli: Cli) -> None:
    result = cli("serch")
    assert result.exit_code == 2
    assert "No such command 'serch'. Did you mean search?" in result.stderr
    assert "Did you mean" not in cli("xyzzy").stderr
