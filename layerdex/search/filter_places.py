"""Showing a place in an expression."""

from __future__ import annotations

from unicodedata import combining, east_asian_width

_BEFORE, _AFTER = 40, 30


def show_place(text: str, at: int) -> str:
    """Return two lines: the expression, shortened where it is long, and a caret under a place."""
    start, end = max(at - _BEFORE, 0), at + _AFTER
    before = ("…" if start else "") + "".join(map(_shown, text[start:at]))
    after = "".join(map(_shown, text[at:end])) + ("…" if end < len(text) else "")
    return f"  {before}{after}\n  {' ' * sum(map(_columns, before))}^"


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def _columns(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
