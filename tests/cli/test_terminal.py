"""What a person at a terminal sees: 80 columns, no escape sequences, nothing raw."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.cells import cell_len

from layerdex import Index
from layerdex.options import EncoderOptions
from tests.cli.runner import Cli
from tests.cli.test_processes import WITH_WORDS, seen_on_a_terminal
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


RAW = "a\x9b2J\x7f\u202e\u200b\u2028\U000e0041"


@pytest.fixture(scope="module")
def unsafe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of one document, whose id, text and label a terminal would obey."""
    rows = [{"id": f"{RAW}1", "text": f"battery {RAW}", "label": RAW, "می\u200cخواهم": RAW}]
    return make_index(tmp_path_factory.mktemp("unsafe"), rows)


def data_of(shown: str) -> str:
    """Return what a terminal showed without its progress bars and colours."""
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", shown.replace("\r\n", "\n")).split("\r")[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["search", "INDEX", "--like", f"{RAW}1", "--json"],
        ["get", "INDEX", f"{RAW}1"],
        ["export", "INDEX"],
        ["export", "INDEX", "-q", "-o", "/dev/stderr"],
    ],
)
def test_json_on_a_terminal_is_escaped_and_equal(unsafe: Path, words: list[str]) -> None:
    given = [str(unsafe) if word == "INDEX" else word for word in words]
    if words[0] == "search":
        given[3] = f"{RAW}1"
    shown = data_of(seen_on_a_terminal("-m", "layerdex", *given))
    assert raw(shown) <= {"\u200c"}
    if words[0] == "search":
        assert json.loads(shown) == []
        return
    row = json.loads(shown)
    assert (row["id"], row["text"], row["label"]) == (f"{RAW}1", f"battery {RAW}", RAW)
    assert row["metadata"] == {"می\u200cخواهم": RAW}


def test_json_in_a_file_is_untouched_beside_a_terminal(unsafe: Path, tmp_path: Path) -> None:
    for words in (["get", unsafe, f"{RAW}1"], ["export", unsafe]):
        seen_on_a_terminal("-m", "layerdex", *words, stdout=tmp_path / "out")
        assert RAW in json.loads((tmp_path / "out").read_text(encoding="utf-8"))["text"]
        assert f'"battery {RAW}"' in (tmp_path / "out").read_text(encoding="utf-8")


def test_rejects_on_a_terminal_are_escaped(tmp_path: Path) -> None:
    source = tmp_path / f"{RAW}.jsonl"
    source.write_text('{"id": "a", "text": "one"}\n{"id": "b"}\n')
    skip = ("--on-error", "skip", "--rejects", "/dev/stderr", "-v")
    shown = seen_on_a_terminal("-c", WITH_WORDS, "index", tmp_path / "new", source, *skip)
    [line] = re.findall(r"\{.*\}", shown)
    assert raw(line) == set()
    assert json.loads(line)["source"] == str(source)


def test_a_dry_run_lists_its_changes_in_the_file_that_is_stdout(
    tmp_path: Path, unsafe: Path
) -> None:
    """The progress bar on the terminal does not take what is printed meanwhile."""
    source = tmp_path / "s.jsonl"
    source.write_text('{"id": "fresh", "text": "one"}\n')
    command = ("index", unsafe, source, "--dry-run")
    seen_on_a_terminal("-c", WITH_WORDS, *command, stdout=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "new fresh\n"


@pytest.mark.parametrize(
    "words",
    [
        [f"--{RAW}\x1b[2J"],
        [f"{RAW}\x1b[2J"],
        ["search", "INDEX", "x", f"--{RAW}\x1b[2J"],
        ["search", "INDEX", "x", "--k", f"{RAW}\x1b[2J"],
        ["search", "INDEX", "x", "-k", f"{RAW}\x1b[2J"],
        ["info", "INDEX", f"{RAW}\x1b[2J"],
        ["dedup", "INDEX", "--threshold", "0.5", "--keep", f"{RAW}\x1b[2J"],
        ["index", "new", f"{RAW}\x1b[2J", "--format", f"{RAW}\x1b[2J"],
    ],
)
def test_usage_errors_repeat_nothing_that_a_terminal_obeys(
    cli: Cli, unsafe: Path, words: list[str]
) -> None:
    result = cli(*[unsafe if word == "INDEX" else word for word in words])
    assert result.exit_code == 2
    assert raw(result.stderr) == set()


def test_the_log_is_one_line_per_message_and_safe(tmp_path: Path, unsafe: Path) -> None:
    code = f"""
import logging
from layerdex.cli.context import Context
context = Context()
logging.getLogger("layerdex.x").warning("a %s", "b{RAW}\\n\\x1b[2J")
context.show_log()
logging.getLogger("layerdex.x").info("c %s", "d{RAW}\\n\\x1b[2J")
"""
    shown = seen_on_a_terminal("-c", code)
    assert raw(shown.replace("\r\n", "\n")) == set()
    assert [line[:2] for line in shown.splitlines()] == ["a ", "la"]


def test_scripts_and_emoji_that_need_joiners_have_them_in_tables(cli: Cli, tmp_path: Path) -> None:
    text = "می\u200cخواهم 👩\u200d👧"
    index = make_index(tmp_path, [{"id": "pay\u200dpal", "text": text}])
    shown = cli.data("search", index, text)
    assert text in shown
    assert "pay\ufffdpal" in shown


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
    assert "document" in shown
    assert "card" in shown.splitlines()[4]
    assert not [line for line in shown.splitlines() if line.endswith(" ")]


def test_a_mistyped_command_is_guessed(cli: Cli) -> None:
    result = cli("serch")
    assert result.exit_code == 2
    assert "No such command 'serch'. Did you mean search?" in result.stderr
    assert "Did you mean" not in cli("xyzzy").stderr
