"""The modules of a sentence-transformers model, of which Layerdex runs the first, a Transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from layerdex.choices import Pooling
from layerdex.errors import ModelError
from layerdex.indexer.models.safety import read_json

# The others are how early versions named it.
_TRANSFORMERS = (
    *("Transformer", "MLMTransformer"),
    *("BERT", "RoBERTa", "DistilBERT", "CamemBERT", "ALBERT", "XLMRoBERTa", "XLNet"),
)
_POOLING = "Pooling"
_NORMALIZE = "Normalize"
# It does nothing outside of training.
_DROPOUT = "Dropout"
_LIBRARY = "sentence_transformers."
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
# One flag per mode, in the order in which their vectors are joined.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Modules:
    """A model's Transformer and Pooling.

    ``transformer`` is the folder of the weights. ``pooling`` is None where the model says nothing
    of it, and a plain string if it is not supported; ``pools_prompt`` tells whether the tokens of
    a prompt are pooled too. ``notes`` say which modules are not run.
    """

    transformer: Path
    pooling: Pooling | str | None = None
    pools_prompt: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Module:
    """An entry of ``modules.json``: ``name`` is that of the class, ``kind`` with its package."""

    kind: str
    folder: Path

    @property
    def name(self) -> str:
        return self.kind.rpartition(".")[2]


def read_modules(name: str, root: Path) -> Modules:
    """Read the ``modules.json`` of the model ``name`` in ``root``; without one it is all there.

    Raises `ModelError` for a model that does not begin with a Transformer.
    """
    modules = _read_list(root)
    if not modules:
        return Modules(root)
    first, *others = modules
    if first.name not in _TRANSFORMERS:
        raise ModelError(
            f"{name!r} begins with the module {first.kind!r}: only models that begin with a "
            "Transformer have layers to index"
        )
    pooling = next((module for module in others if module.name == _POOLING), None)
    notes = [
        f"its {module.kind} is code of its own, which is never run: it is taken for a plain "
        f"{module.name}"
        for module in (first, pooling)
        if module is not None and not module.kind.startswith(_LIBRARY)
    ]
    if skipped := _skipped(others):
        is_one = len(skipped) == 1
        notes.append(
            f"its {'module' if is_one else 'modules'} {', '.join(skipped)} "
            f"{'is' if is_one else 'are'} not applied: the vectors are those of its layers alone"
        )
    if pooling is None:
        notes.append("it has no Pooling module: --pooling says how, else the mean is used")
        return Modules(first.folder, notes=tuple(notes))
    file = pooling.folder / "config.json"
    config = read_json(file, dict)
    return Modules(
        first.folder,
        pooling=_to_pooling(_pooling_modes(config, file)),
        pools_prompt=config.get("include_prompt") is not False,
        notes=tuple(notes),
    )


def _read_list(root: Path) -> list[_Module]:
    file = root / "modules.json"
    modules = []
    for entry in read_json(file, list):
        place = entry.get("path") if isinstance(entry, dict) else None
        if not isinstance(place, str) or not isinstance(entry.get("type", ""), str):
            raise ModelError(f"{file}: {entry!r} is not a module")
        path = PureWindowsPath(place)  # which takes both kinds of slashes
        if path.anchor or ".." in path.parts or "\0" in place:
            raise ModelError(f"{file}: {entry!r} is outside its folder")
        modules.append(_Module(entry.get("type", ""), root / place))
    return modules


def _skipped(modules: Sequence[_Module]) -> list[str]:
    """Return the names of the modules that change vectors and are not run.

    Vectors are compared by cosine, so that a Normalize of pooled vectors changes nothing.
    """
    names = [module.name for module in modules if module.name != _DROPOUT]
    n_before = names.index(_POOLING) if _POOLING in names else 0
    after = [name for name in names[n_before + 1 :] if name != _NORMALIZE]
    return names[:n_before] + (after if n_before or _POOLING in names else names)


def _pooling_modes(config: dict[str, Any], file: Path) -> list[str]:
    modes = config.get("pooling_mode")
    if modes is None:
        return [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not all(isinstance(mode, str) for mode in modes):
        raise ModelError(f"{file}: pooling_mode is {modes!r}, not a name or a list of names")
    return modes


def _to_pooling(modes: list[str]) -> Pooling | str | None:
    """Return the pooling, or the name of one that is not supported; None for no mode."""
    name = "+".join(modes)
    return _POOLING_NAMES.get(name, name) or None
