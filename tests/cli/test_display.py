"""What tables show of documents: lines of a text, whole texts, fields; at every width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from layerdex import Index
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer

WIDTHS = (40, 60, 80, 120, 200)
LONG_ID = "reviews/2026/07/a-long-identifier-of-a-customer/0000017"
LONG_LABEL = "transfer_not_received_by_recipient_or_by_his_bank"
TEXT = (
    "the battery of the new phone that I bought last week in your shop died after a day, and "
    "nobody there wants to take it back although I still have the receipt"
)
ROWS: list[dict[str, Any]] = [
    {"id": "a1", "text": f"{TEXT} one", "label": "battery", "stars": 1, "is_new": True, "note": ""},
    {"id": LONG_ID, "text": f"{TEXT} two", "label": LONG_LABEL, "stars": 2, "note": "n" * 100},
    {"id": "cjk", "text": "电池坏了，手机在哪里？" * 20, "label": "电池", "lang": "zh"},
    {"id": "rtl", "text": "أين بطاقتي الجديدة؟ " * 20, "label": "بطاقة", "lang": "ar"},
    {
        "id": "emoji",
        "text": "e\u0301" * 300 + " 👩\u200d👧 battery" * 20,
        "label": "x",
        "lang": "en",
    },
    {"id": "lines", "text": "Dear shop,\n\n\tit died.\r\nYours \x1b[31m", "label": "x", "a,b": 3},
]
IDS = [str(row["id"]) for row in ROWS]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("display") / "index"
    Index.create(path, model=WordTransformer()).add(ROWS)
    return path


def show(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int, *words: object) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    return cli.data(*words)


def below_rule(shown: str) -> str:
    return shown.split("─\n", 1)[1].rstrip("\n")


def test_a_hit_at_80_columns(cli: Cli, index: Path) -> None:
    words = ("search", index, "battery", "--where", "stars<3")
    first, second = (f"{hit['similarity']:.3f}" for hit in cli.json(*words))
    expected = f"""\
  1        {first}   a1 · battery
                   the battery of the new phone that I bought last week in
                   your shop died after a day, and nobody there wants to take…
                   stars: 1 · is_new: true · note:
  2        {second}   reviews/2026/07/a-long-identifier-of-a-customer/0000017 ·
                   transfer_not_received_by_recipient_or_by_his_bank
                   the battery of the new phone that I bought last week in
                   your shop died after a day, and nobody there wants to take…
                   stars: 2 · note:
                   nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn
                   nnnnnnnnnnnnnn…"""
    assert below_rule(cli.data(*words, "--show", "stars,is_new,note")) == expected
    assert below_rule(cli.data(*words, "--show", "stars", "--show", "is_new, note")) == expected


def test_a_hit_at_40_columns(cli: Cli, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("search", index, "battery", "--where", "id=a1")
    similarity = f"{cli.json(*words)[0]['similarity']:.3f}"
    assert (
        show(cli, monkeypatch, 40, *words)
        == f"""\
battery · layer 3

  #   similarity   document
 ──────────────────────────────────────
  1        {similarity}   a1 · battery
                   the battery of the
                   new phone that I…

"""
    )


def test_wide_characters_end_where_the_column_ends(
    cli: Cli, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show(cli, monkeypatch, 60, "search", index, "x", "--where", "id=cjk")
    assert below_rule(shown).splitlines()[1:] == [
        "                   电池坏了，手机在哪里？电池坏了，手机在",
        "                   哪里？电池坏了，手机在哪里？电池坏了，…",
    ]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "words",
    [
        ("search", "--lines", 3),
        ("search", "--show", "all"),
        ("search", "--full", "--show", "all"),
        ("search", "--layer", "0,3", "--show", "all"),
        ("classify", "-k", 3),
        ("suspects", "-k", 2, "--show", "all"),
        ("dedup", "--threshold", -1, "--show", "all"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_no_width_loses_a_column_or_overflows(
    cli: Cli,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    width: int,
) -> None:
    command, *options = words
    asked = ["battery"] if command in ("search", "classify") else []
    wide = show(cli, monkeypatch, 400, command, index, *asked, *options)
    shown = show(cli, monkeypatch, width, command, index, *asked, *options)
    table = [line for line in shown.splitlines() if line.startswith(" ")]
    assert max(map(cell_len, table)) <= width
    header = next(line for line in wide.splitlines() if line.startswith("  "))
    assert set(header.split()) <= set(shown.split())
    if command == "search" and "--layer" not in options:
        assert max(cell_len(line.strip()) for line in table if "─" not in line) >= width / 2
    assert not any(ord(c) < 32 for c in shown.replace("\n", ""))


def test_columns_of_figures_that_do_not_fit_follow_below(
    cli: Cli, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = show(cli, monkeypatch, 80, "evaluate", shared).splitlines()
    narrow = show(cli, monkeypatch, 40, "evaluate", shared).splitlines()
    figures = [line.split() for line in wide if line[:7].strip().isdigit()]
    parts = [line.split() for line in narrow if line[:7].strip().isdigit()]
    n = len(figures)
    assert len(parts) == 3 * n
    for i, row in enumerate(figures):
        first, second, third = parts[i::n]
        # A remark stays with the first part.
        assert sorted([*first, *second[1:], *third[1:]]) == sorted(row)
        assert first[0] == second[0] == third[0]


def test_whole_texts_keep_their_lines(cli: Cli, index: Path) -> None:
    shown = cli.data("search", index, "died", "--where", "id=lines", "--full", "--show", "a,b")
    assert [line.strip() for line in below_rule(shown).splitlines()[1:]] == [
        "Dear shop,",
        "",
        "it died.",
        "Yours \ufffd[31m",
        "a,b: 3",
    ]
    assert TEXT + " one" in " ".join(
        cli.data("search", index, "x", "--where", "id=a1", "--full").split()
    )


@pytest.mark.parametrize("n", [1, 3])
def test_a_text_has_so_many_lines_at_most(cli: Cli, index: Path, n: int) -> None:
    shown = cli.data("search", index, "x", "--where", "id=a1", "--lines", n)
    lines = below_rule(shown).rstrip().splitlines()
    assert len(lines) == 1 + n
    assert lines[-1].endswith("…") == (n < 3)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("star", "no document has the field 'star': did you mean 'stars'?"),
        ("stars,nothing", "no document has the field 'nothing': there are "),
        ("", "no document has the field '': there are a,b, is_new, lang, note, stars"),
    ],
)
def test_a_field_that_no_document_has_is_an_error(
    cli: Cli, index: Path, field: str, message: str
) -> None:
    for words in (["search", index, "x"], ["classify", index, "x"], ["suspects", index]):
        assert cli.error(*words, "--show", field).startswith(message)


def test_what_is_always_shown_may_be_asked_for(cli: Cli, index: Path) -> None:
    words = ("search", index, "battery", "--show")
    assert cli.data(*words, "id, label,text,stars") == cli.data(*words, "metadata.stars")


def test_without_fields_none_can_be_shown(cli: Cli, tmp_path: Path) -> None:
    Index.create(tmp_path / "bare", model=WordTransformer()).add([{"text": "a"}, {"text": "b"}])
    message = "no document has the field 'x', or any other metadata field"
    assert cli.error("search", tmp_path / "bare", "a", "--show", "x") == message
    assert cli.data("search", tmp_path / "bare", "a", "--show", "all")


def test_options_of_a_table_change_no_json(cli: Cli, index: Path) -> None:
    words = ("search", index, "battery")
    assert cli.json(*words, "--full", "--show", "stars") == cli.json(*words, "--lines", 1)
    assert cli.usage(*words, "--full", "--lines", 1) == "--lines cannot be used with --full"
    message = cli.usage("dedup", index, "--suggest", "--full")
    assert message == "--full cannot be used with --suggest"


def test_suspects_show_the_fields_of_their_neighbours(cli: Cli, index: Path) -> None:
    [suspect] = cli.json("suspects", index, "-k", 2, "--limit", 1)["found"]
    lines = cli.data("suspects", index, "-k", 2, "--limit", 1, "--show", "lang").splitlines()
    fields = {str(row["id"]): row.get("lang") for row in ROWS}
    shown = [suspect["id"], *(neighbor["id"] for neighbor in suspect["neighbors"])]
    expected = [f"lang: {fields[one]}" for one in shown if fields[one] is not None]
    assert [line.strip() for line in lines if "lang:" in line] == expected
    assert expected
