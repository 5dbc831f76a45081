"""The prompts that a model was made for, from its sentence-transformers file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerdex.errors import ModelError
from layerdex.indexer.models.safety import read_json

_FILE = "config_sentence_transformers.json"
_KIND = "SentenceTransformer"
# Every model has these, empty if it does not say otherwise.
_ALWAYS_THERE = ("query", "document")


@dataclass(frozen=True, slots=True)
class Prompts:
    """A model's prompts, each the text before another text.

    ``default`` is the one before every text, called ``default_name``, and empty if there is none;
    ``others`` are by their name, none of them empty. ``notes`` say what else the file asks for.
    """

    default: str = ""
    others: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    default_name: str = ""


def read_prompts(root: Path) -> Prompts:
    """Read the prompts of the model in ``root``. Raises `ModelError`."""
    file = root / _FILE
    config = read_json(file, dict)
    kind = config.get("model_type", _KIND)
    if kind != _KIND:
        # sentence-transformers takes no prompts from it either.
        return Prompts(notes=(f"it is a {kind}: its layers are indexed as those of any encoder",))
    prompts = config.get("prompts") or {}
    name = config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(
        text is None or isinstance(text, str) for text in prompts.values()
    ):
        raise ModelError(f"{file}: prompts is {prompts!r}, not an object of texts")
    if name is not None and name not in (*prompts, *_ALWAYS_THERE):
        raise ModelError(f"{file}: the default prompt {name!r} is none of {', '.join(prompts)}")
    others = {key: text for key, text in prompts.items() if text and key != name}
    return Prompts(prompts.get(name) or "", others, tuple(_notes(config)), name or "")


def _notes(config: dict[str, Any]) -> list[str]:
    notes = []
    similarity = config.get("similarity_fn_name")
    if similarity not in (None, "cosine"):
        notes.append(f"it was made to be compared by {similarity!r}; Layerdex compares by cosine")
    width = config.get("truncate_dim")
    if width is not None:
        notes.append(f"it truncates vectors to {width} dimensions; Layerdex stores all of them")
    return notes
