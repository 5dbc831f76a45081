"""The fingerprint: a digest of everything that decides a vector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from layerdex.indexer.models.file_digests import FileDigest, digest_file
from layerdex.indexer.models.safety import read_json
from layerdex.indexer.models.transformer_settings import read_transformer_settings
from layerdex.options import EncoderOptions
from layerdex.records import Quantization

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
_ADAPTER = "adapter"
_SHARDS = "shards"
_SINGLE = "model.safetensors"
# They name files, whose contents are digested instead.
_FILES = ("model", "revision", "adapter", "calibration")
# They describe the file's author, not what the model computes.
_IRRELEVANT_CONFIG = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")


@dataclass(frozen=True, slots=True)
class ModelContents:
    """What the files of a model decide a vector by; they were read once, together.

    ``parts`` is plain data: the configuration, and the digests of weights, tokenizer and adapter.
    """

    folder: Path
    parts: dict[str, Any]
    files: tuple[FileDigest, ...]

    def with_adapter(self, adapter: Path) -> ModelContents:
        """Return the contents together with an adapter's. Raises `ModelError`."""
        files = tuple(digest_file(adapter / name) for name in ADAPTER_FILES)
        parts = {**self.parts, _ADAPTER: _by_name(files)}
        return ModelContents(self.folder, parts, (*self.files, *files))

    def check_unchanged(self) -> None:
        """Raise `ModelError` if a file is not what it was, for a caller who has loaded them."""
        for file in self.files:
            file.check_unchanged()


def read_contents(folder: Path) -> ModelContents:
    """Read what decides a vector in a model's folder. Raises `ModelError`."""
    files = [digest_file(folder / "config.json")]
    weights = [digest_file(file) for file in sorted(folder.glob("*.safetensors"))]
    tokenizer = [
        digest_file(file)
        for pattern in _TOKENIZER_FILES
        for file in folder.glob(pattern)
        if file.is_file()
    ]
    config = read_json(folder / "config.json", dict)
    parts: dict[str, Any] = {
        "config": {k: v for k, v in config.items() if k not in _IRRELEVANT_CONFIG},
        "weights": _by_name(weights),
        "tokenizer": _by_name(tokenizer),
    }
    # What is absent where it is not set keeps older digests valid.
    if unused := _shards_besides(folder, weights):
        parts[_SHARDS] = unused
    if read_transformer_settings(folder).lowercases:
        parts[_LOWERCASE] = True
    return ModelContents(folder, parts, (*files, *weights, *tokenizer))


def _shards_besides(folder: Path, weights: Sequence[FileDigest]) -> dict[str, Any]:
    """Return the tensors' files by name of each index of shards that leaves a weight file out.

    Without such a file the content of the shards says which tensors they have. No index is read
    beside weights in one file.
    """
    names = {file.path.name for file in weights}
    if _SINGLE in names:
        return {}
    maps = {
        file.name: read_json(file, dict).get("weight_map")
        for file in sorted(folder.glob("*.safetensors.index.json"))
    }
    return {
        name: tensors
        for name, tensors in maps.items()
        if isinstance(tensors, dict) and not names <= set(map(str, tensors.values()))
    }


def fingerprint(
    contents: ModelContents, options: EncoderOptions, quantization: Quantization | None = None
) -> str:
    """Return a digest of everything that decides a vector, 32 hex digits.

    It covers the contents of the model, the normalisation, how it was quantised, and all
    ``options`` but the names of files, so that a folder may move. The options must be resolved:
    ValueError for one that is None. device and exact dtypes are left out: they change vectors only
    within the tolerance.
    """
    return _fingerprint(contents.parts, options, quantization)


def earlier_fingerprint(contents: ModelContents, options: EncoderOptions) -> str:
    """Return the fingerprint of an index that was made before ``do_lower_case`` was read."""
    earlier = {k: v for k, v in contents.parts.items() if k != _LOWERCASE}
    return _fingerprint(earlier, options, None)


def _fingerprint(
    parts: dict[str, Any], options: EncoderOptions, quantization: Quantization | None
) -> str:
    settings = {name: value for name, value in asdict(options).items() if name not in _FILES}
    if missing := [name for name, value in settings.items() if value is None]:
        raise ValueError(f"unresolved options: {', '.join(missing)}")
    # Absent for exact encoders, whose digests from before int8 stay valid.
    lossy = {} if quantization is None else {"quantization": quantization.identity}
    return _digest({**parts, **settings, "normalization": "l2", **lossy})


def model_digest(contents: ModelContents) -> str:
    """Return a digest of the contents alone, 32 hex digits."""
    return _digest(contents.parts)


def base_digest(contents: ModelContents) -> str:
    """Return the digest of a model without its adapter, by which an adapter names its model."""
    return _digest({k: v for k, v in contents.parts.items() if k != _ADAPTER})


def _by_name(files: Sequence[FileDigest]) -> dict[str, str]:
    return {file.path.name: file.sha256 for file in files}


def _digest(parts: dict[str, Any]) -> str:
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
