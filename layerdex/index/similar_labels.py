"""Labels that look alike but are different classes, most often by mistake."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_WHOLE = re.compile(r"([+-]?\d+)\.0+", re.ASCII)


def group_similar(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of labels that differ only in blanks, Unicode form or a trailing ``.0``.

    Groups and their labels are in the order in which they are given.
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(_normalize(label), []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def quote_label(label: str) -> str:
    """Return a label in quotes, in which blanks and combining characters can be seen."""
    is_composed = unicodedata.is_normalized("NFC", label)
    return (repr(label) if is_composed else ascii(label)).replace("  ", " \\x20")


def _normalize(label: str) -> str:
    shown = " ".join(unicodedata.normalize("NFC", label).split())
    number = _WHOLE.fullmatch(shown)
    return number[1] if number else shown
