"""Checks of a model folder, before the libraries that load it read its files.

No code of the folder is ever run (see `loading`). These checks refuse everything else that its
files could cause: reading files elsewhere, pickles, code from the hub, unbounded memory or time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from layerdex.errors import ModelError

Content = TypeVar("Content", dict[str, Any], list[Any])

_READ = ("*.json", "*.txt", "*.model", "*.safetensors")
_POINTER = b"version https://git-lfs.github.com/spec/"
_SAFE = (".safetensors", ".safetensors.index.json")
# Each block takes a millisecond before a weight is read, and each label some bytes.
_LIMITS = (
    (re.compile(r"(num|n)_(\w+_)?(layer|group|expert|block)s?|inner_group_num"), 1_024),
    (re.compile(r"num_labels"), 100_000),
)


def check_safe(name: str, path: Path) -> None:
    """Raise `ModelError` for a file of the model at ``path`` that is unsafe to load."""
    for pattern in _READ:
        for file in path.glob(pattern):
            if file.exists() and not file.is_file():  # a named pipe would block
                raise ModelError(f"{name!r} cannot be loaded: {file} is not a file")
            if file.exists():
                check_fetched(file)
    if (path / "adapter_config.json").exists():
        raise ModelError(f"{name!r} is an adapter of another model: merge them first")
    config = read_json(path / "config.json", dict)
    for key, value in _settings(config):
        _check_setting(name, key, value)
    for file in path.glob("*.safetensors.index.json"):
        _check_shards(file)
    _check_tokenizer(name, path)


def check_fetched(file: Path) -> None:
    """Raise `ModelError` for a pointer of Git LFS, as a clone without it has for each large file.

    See https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
    """
    try:
        with file.open("rb") as opened:
            is_pointer = opened.read(len(_POINTER)) == _POINTER
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror}") from error
    if is_pointer:
        raise ModelError(
            f"{file} is a pointer of Git LFS, not the file itself: run 'git lfs pull' in its "
            "repository"
        )


def _check_setting(name: str, key: str, value: object) -> None:
    if key.endswith("_implementation") and "/" in str(value):
        raise ModelError(f"{name!r} asks for code from the hub ({value}), which is never run")
    is_safe = _is_local(value) and str(value).endswith(_SAFE)
    if key == "transformers_weights" and value is not None and not is_safe:
        raise ModelError(f"{name!r} names weights outside its own safetensors: {value!r}")
    for pattern, limit in _LIMITS:
        if pattern.fullmatch(key) and isinstance(value, int) and value > limit:
            raise ModelError(f"{name!r} has {key} {value}: the limit is {limit:,}")


def _check_shards(file: Path) -> None:
    shards = read_json(file, dict).get("weight_map", {})
    named = set(map(str, shards.values())) if isinstance(shards, dict) else {str(shards)}
    for shard in sorted(named):
        if not (_is_local(shard) and shard.endswith(".safetensors")):
            raise ModelError(f"{file} names weights outside its own safetensors: {shard!r}")


def _check_tokenizer(name: str, path: Path) -> None:
    """Raise `ModelError` if the tokenizer would be read from a path in its settings.

    Many models still name their author's files, but a tokenizer.json beside them comes first.
    """
    if (path / "tokenizer.json").is_file():
        return
    for key, value in read_json(path / "tokenizer_config.json", dict).items():
        if key in ("tokenizer_file", "vocab_file", "merges_file") and not _is_local(value or "-"):
            raise ModelError(f"{name!r} has no tokenizer.json, and its {key} is not in its folder")


def _is_local(value: object) -> bool:
    """Return whether a value is the name of a file in the model's folder."""
    return isinstance(value, str) and Path(value).name == value and value not in ("", "..")


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a configuration and of nested ones."""
    for key, value in config.items():
        yield key, value
        if isinstance(value, dict):
            yield from _settings(value)


def read_json(path: Path, kind: type[Content]) -> Content:
    """Return the object or array in a model's JSON file; an empty one if the file is missing.

    Raises `ModelError`.
    """
    if not path.exists():
        return kind()
    if not path.is_file():  # a named pipe would block
        raise ModelError(f"cannot read {path}: it is not a file")
    check_fetched(path)
    try:
        content = json.loads(path.read_bytes())
    except (OSError, RecursionError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(content, kind):
        raise ModelError(f"{path} does not hold a JSON {'object' if kind is dict else 'array'}")
    return content
