"""Characters that a terminal obeys, compared with Unicode's own categories."""

from __future__ import annotations

import json
import unicodedata

import pytest

from layerdex.terminals import escape_unsafe, json_line

EVERY_CHARACTER = list(map(chr, range(0x110000)))
JOINERS = {"\u200c", "\u200d"}
HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_every_character_that_a_terminal_obeys_is_escaped_and_no_other() -> None:
    escaped = {c for c in EVERY_CHARACTER if escape_unsafe(c) != c}
    assert escaped == {c for c in EVERY_CHARACTER if unicodedata.category(c) in HARMFUL} - {
        "\n",
        "\t",
    }
    named = "\x1b\r\b\x7f\x80\x9b\x9d\xad\u061c\u200b\u200e\u202e\u2028\u2066\ufeff\U000e0041"
    assert escaped.issuperset(named)


def test_escaped_json_has_equal_content() -> None:
    text = "".join(c for c in EVERY_CHARACTER if unicodedata.category(c) != "Cs") + "\udc80x\ud800"
    shown = escape_unsafe(json.dumps(text, ensure_ascii=False))
    assert json.loads(shown) == text
    assert {unicodedata.category(c) for c in set(shown) - JOINERS}.isdisjoint(HARMFUL)


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cخواهم",
        "क\u094d\u200dष",
        "👩\u200d👧",
        "❤\ufe0f",
        "naïve שלום 猫",
        "a\tb\n",
        "\x1b[1;31mx\x1b[0m",
    ],
)
def test_scripts_emoji_and_colours_stay(text: str) -> None:
    assert escape_unsafe(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pay\u200dpal", r"pay\u200dpal"),
        ("\x1b[2Jx", r"\u001b[2Jx"),
        ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
        ("\U000e0061", r"\udb40\udc61"),
    ],
)
def test_what_hides_or_acts_is_shown(text: str, shown: str) -> None:
    assert escape_unsafe(text) == shown


def test_what_only_writes_is_no_terminal() -> None:
    class Writer:
        def write(self, data: bytes) -> int:
            return len(data)

    assert json_line("\x9b", Writer()) == '"\x9b"\n'
