"""The settings of a model's Transformer module, from its sentence-transformers file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerdex.errors import ModelError
from layerdex.indexer.models.safety import read_json

NO_LIMIT = 1 << 30
"""A number of tokens that stands for any number: more than a text ever has."""

# Every name that sentence-transformers has given this file; the first that says something counts.
_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# What sentence-transformers writes for every model of texts.
_PLAIN = {
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings",),
    "modality_config": (
        {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    ),
}
_KNOWN = ("max_seq_length", "do_lower_case", "unpad_inputs", "backend")
# Arguments for the loading of the tokenizer, and of the rest, under their older and newer names.
_TOKENIZER_ARGUMENTS = ("tokenizer_args", "processor_kwargs")
_ARGUMENTS = (*_TOKENIZER_ARGUMENTS, "model_args", "model_kwargs", "config_args", "config_kwargs")
# They decide how a model is loaded and how fast it runs, but no vector.
_HARMLESS_ARGUMENTS = (
    *("model_max_length", "attn_implementation", "dtype", "torch_dtype", "add_pooling_layer"),
    *("trust_remote_code", "revision", "use_fast", "use_safetensors", "low_cpu_mem_usage"),
    *("device_map", "use_cache"),
)


@dataclass(frozen=True, slots=True)
class TransformerSettings:
    """What the file says: ``max_length`` is in tokens, None where it states no limit.

    ``lowercases`` tells whether texts are lowered for a tokenizer that keeps their case.
    ``ignored`` names the settings that would change vectors, and that Layerdex does not apply.
    """

    max_length: int | None
    lowercases: bool
    ignored: tuple[str, ...]


def read_transformer_settings(folder: Path) -> TransformerSettings:
    """Read the settings of the Transformer in ``folder``. Raises `ModelError`."""
    file, settings = _find_settings(folder)
    max_length = settings.get("max_seq_length")
    for name in _TOKENIZER_ARGUMENTS:
        given = settings.get(name)
        # It comes before max_seq_length, as in sentence-transformers.
        if isinstance(given, dict) and given.get("model_max_length") is not None:
            max_length = given["model_max_length"]
    lowercases = settings.get("do_lower_case")
    if lowercases not in (None, True, False):
        raise ModelError(f"{file}: do_lower_case is {lowercases!r}, not true or false")
    return TransformerSettings(
        max_length=_to_length(max_length, file),
        lowercases=bool(lowercases) and not _lowers_by_itself(folder),
        ignored=tuple(_ignored(settings)),
    )


def _find_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    for name in _FILES:
        if settings := read_json(folder / name, dict):
            return folder / name, settings
    return folder / _FILES[0], {}


def _to_length(value: object, file: Path) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        raise ModelError(f"{file}: max_seq_length is {value!r}, not a number of tokens")
    return int(value) if value < NO_LIMIT else None


def _lowers_by_itself(folder: Path) -> bool:
    """Return whether the tokenizer lowers texts anyway, so that the setting changes nothing.

    Indexes of such models, made before the setting was read, then keep their fingerprint.
    """
    normalizer = read_json(folder / "tokenizer.json", dict).get("normalizer")
    if not isinstance(normalizer, dict):
        return False
    if normalizer.get("type") == "BertNormalizer":
        return normalizer.get("lowercase") is True
    steps = normalizer.get("normalizers")
    steps = steps if isinstance(steps, list) else [normalizer]
    return any(isinstance(step, dict) and step.get("type") == "Lowercase" for step in steps)


def _ignored(settings: dict[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if name in _ARGUMENTS and isinstance(value, dict):
            yield from (f"{name}.{key}" for key in value if key not in _HARMLESS_ARGUMENTS)
        elif name not in _KNOWN and value not in (None, {}, [], *_PLAIN.get(name, ())):
            yield name
