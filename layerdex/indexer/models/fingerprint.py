"""Digests of weight files, with a cache, and of everything that decides a vector."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from layerdex.errors import ModelError
from layerdex.indexer.models.transformer_settings import read_transformer_settings
from layerdex.options import EncoderOptions

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "entity_vocab.json",
    "tekken.json",
    # transformers reads any SentencePiece model, and a tokenizer.json for its own version.
    "*.model",
    "tokenizer.*.json",
)
# As the library peft names them.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_LOWERCASE = "lowercase"
_N_CACHED = 4  # size, time of change, inode, digest
# They name files, whose contents are digested instead.
_FILES = ("model", "revision", "adapter")
# They describe the file's author, not what the model computes.
_IRRELEVANT_CONFIG = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")


def fingerprint(folder: Path, options: EncoderOptions, adapter: Path | None = None) -> str:
    """Return a digest of everything that decides a vector, 32 hex digits.

    It covers the files of the model in ``folder`` and of ``adapter`` (weights, configuration,
    tokenizer), the normalisation, and all ``options`` but the names of these files, so that a
    folder may move. The options must be resolved: ValueError for one that is None. dtype and
    device are left out: they change vectors only within the tolerance.
    """
    return _fingerprint(_model_parts(folder, adapter), options)


def earlier_fingerprint(folder: Path, options: EncoderOptions, adapter: Path | None = None) -> str:
    """Return the fingerprint of an index that was made before ``do_lower_case`` was read."""
    parts = _model_parts(folder, adapter)
    parts.pop(_LOWERCASE, None)
    return _fingerprint(parts, options)


def _fingerprint(parts: dict[str, Any], options: EncoderOptions) -> str:
    settings = {name: value for name, value in asdict(options).items() if name not in _FILES}
    if missing := [name for name, value in settings.items() if value is None]:
        raise ValueError(f"unresolved options: {', '.join(missing)}")
    return _digest({**parts, **settings, "normalization": "l2"})


def model_digest(folder: Path, adapter: Path | None = None) -> str:
    """Return a digest of the files of a model and an adapter alone, 32 hex digits."""
    return _digest(_model_parts(folder, adapter))


def _model_parts(folder: Path, adapter: Path | None) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_bytes())
    parts: dict[str, Any] = {
        "config": {k: v for k, v in config.items() if k not in _IRRELEVANT_CONFIG},
        "weights": {f.name: file_digest(f) for f in sorted(folder.glob("*.safetensors"))},
        "tokenizer": {
            file.name: file_digest(file)
            for pattern in _TOKENIZER_FILES
            for file in folder.glob(pattern)
            if file.is_file()
        },
    }
    # What is absent where it is not set keeps older digests valid.
    if read_transformer_settings(folder).lowercases:
        parts[_LOWERCASE] = True
    if adapter is not None:
        parts["adapter"] = {name: file_digest(adapter / name) for name in ADAPTER_FILES}
    return parts


def _digest(parts: dict[str, Any]) -> str:
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """Return a file's SHA-256, cached by path, size, modification time and inode."""
    try:
        status = path.stat()
        key = str(path.resolve())
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        cached = _read_cache()
        if (entry := cached.get(key)) and entry[:-1] == stamp:
            return str(entry[-1])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    _write_cache({**cached, key: [*stamp, digest]})
    return digest


def cache_folder() -> Path:
    """Return Layerdex's cache folder, which may not exist; deleting it only costs time.

    Raises OSError if there is none, as for a container's user without a home.
    """
    for name in (os.environ.get("XDG_CACHE_HOME", ""), "~/.cache"):
        folder = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's raises without a home
        if folder.is_absolute():  # others are invalid (XDG Base Directory Specification)
            return folder / "layerdex"
    raise FileNotFoundError(errno.ENOENT, "there is no home directory: set XDG_CACHE_HOME")


def _cache_path() -> Path:
    return cache_folder() / "digests.json"


def _read_cache() -> dict[str, list[Any]]:
    try:
        cached = json.loads(_cache_path().read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(cached, dict):
        return {}
    return {k: v for k, v in cached.items() if isinstance(v, list) and len(v) == _N_CACHED}


def _write_cache(cached: dict[str, list[Any]]) -> None:
    # A cache that cannot be written is not an error.
    with contextlib.suppress(OSError):
        path = _cache_path()
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(cached))
        temporary.replace(path)
