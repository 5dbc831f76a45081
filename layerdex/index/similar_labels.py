"""Labels that look alike but are different classes, most often by mistake."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from difflib import get_close_matches

_CUTOFF = 0.8
_NUMBER = re.compile(r"\d+")
_WHOLE = re.compile(r"([+-]?\d+)\.0+", re.ASCII)


def group_similar(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of labels that differ only in blanks, Unicode form or a trailing ``.0``.

    Groups and their labels are in the order in which they are given.
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(_normalize(label), []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def find_misspelt(labels: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Return the labels that are close to a known one, each with the closest.

    Labels that differ in their numbers are different ones on purpose.
    """
    by_shape = {label.casefold(): label for label in known}
    found = {}
    for label in labels:
        shape = label.casefold()
        same_numbers = [one for one in by_shape if _NUMBER.findall(one) == _NUMBER.findall(shape)]
        if close := get_close_matches(shape, same_numbers, 1, cutoff=_CUTOFF):
            found[label] = by_shape[close[0]]
    return found


def quote_label(label: str) -> str:
    """Return a label in quotes, in which blanks and combining characters can be seen."""
    is_composed = unicodedata.is_normalized("NFC", label)
    return (repr(label) if is_composed else ascii(label)).replace("  ", " \\x20")


def _normalize(label: str) -> str:
    shown = " ".join(unicodedata.normalize("NFC", label).split())
    number = _WHOLE.fullmatch(shown)
    return number[1] if number else shown
