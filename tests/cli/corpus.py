"""The documents that most tests of the command line ask about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_TOPICS = {
    "card": (
        "my card was declined at the shop",
        "where is my new bank card",
        "the card arrived broken at my bank",
        "how do I activate my bank card",
        "the card payment fee is wrong",
        "my bank declined the card payment",
    ),
    "food": (
        "this soup tastes wonderful with bread",
        "the pizza tastes cold and late",
        "I love fresh bread with butter",
        "the cook burned the fish soup",
        "a sweet cake with fresh berries",
        "fresh fish soup with bread",
    ),
    "rain": (
        "it rains all day in london",
        "tomorrow will be sunny and warm",
        "a storm is coming from the west",
        "snow fell on the hills all day",
        "the wind is very strong all day",
        "a strong wind is coming tomorrow",
    ),
}
_LANGUAGES = ("en", "de", "fr")

DOCUMENTS: list[dict[str, Any]] = [
    {
        "id": f"{label}-{i}",
        "text": text,
        "label": label,
        "stars": i,
        "lang": _LANGUAGES[i % len(_LANGUAGES)],
    }
    for label, texts in _TOPICS.items()
    for i, text in enumerate(texts)
] + [
    {"id": "again", "text": _TOPICS["card"][0], "label": "card", "stars": 9, "lang": "en"},
    {"id": "bare", "text": "nobody said what this is"},
]
"""Eighteen labelled documents, an exact repeat of the first, and one with neither label."""

EXPORTED = [
    {
        "id": one["id"],
        "text": one["text"],
        "label": one.get("label"),
        "metadata": {name: one[name] for name in ("lang", "stars") if name in one},
    }
    for one in DOCUMENTS
]
"""The documents as ``export`` writes them."""


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as jsonl and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(text: str) -> list[Any]:
    """Read the lines of a jsonl text."""
    return [json.loads(line) for line in text.splitlines()]
