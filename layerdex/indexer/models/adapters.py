"""LoRA adapters: finding and checking them, and merging them into their model's weights.

Every engine runs the merged model like any other, at no cost. Hu et al., *LoRA: Low-Rank Adaptation
of Large Language Models*, ICLR 2022.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerdex.arguments import check_unicode, expand_home, to_path
from layerdex.errors import MissingPackageError, ModelError
from layerdex.indexer.models.fingerprint import ADAPTER_FILES, ModelContents, base_digest
from layerdex.indexer.models.safety import check_fetched, read_json

if TYPE_CHECKING:
    from torch import nn

_CONFIG, WEIGHTS = ADAPTER_FILES
TRAINING_FILE = "layerdex.json"
"""Describes an adapter that `tune` made: the digest of its base model, pooling, template, …"""


def import_peft() -> Any:
    """Import the library peft. Raises `MissingPackageError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about optional libraries
            import peft
    except ImportError as error:
        raise MissingPackageError(
            "adapters need the library peft: pip install 'layerdex[tune]'"
        ) from error
    return peft


def find_adapter(path: str, *, base: ModelContents) -> Path:
    """Return the resolved folder of a LoRA adapter.

    Only safetensors weights are read. Raises `ModelError` for a folder without an adapter, and for
    an adapter that `tune` made for another model than ``base``.
    """
    folder = expand_home(to_path(path, what="an adapter is a folder's path")).resolve()
    check_unicode(folder, what="the path of the adapter,")
    if not folder.exists():
        raise ModelError(f"no adapter folder {str(folder)!r}")
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            raise ModelError(f"{str(folder)!r} is not an adapter: it has no file {name}")
        check_fetched(folder / name)
    kind = read_json(folder / _CONFIG, dict).get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{str(folder)!r} is a {kind!r} adapter; only LORA is supported")
    training = folder / TRAINING_FILE
    trained_on = read_json(training, dict).get("base_digest")
    if training.is_file() and trained_on != base_digest(base):
        raise ModelError(
            f"the adapter {str(folder)!r} was trained on another model than {str(base.folder)!r}"
        )
    return folder


def merge_adapter(module: nn.Module, folder: Path) -> nn.Module:
    """Return the model with the adapter's changes added to its weights.

    Raises `ModelError` if the adapter's weights do not match its configuration for this model,
    `MissingPackageError` without peft.
    """
    peft = import_peft()
    import torch
    from safetensors import safe_open

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # peft draws random numbers, hence the fork, and warns of missing weights, which are an
        # error below.
        warnings.simplefilter("ignore")
        adapted = peft.PeftModel.from_pretrained(module, str(folder))
    # Without embeddings: peft would look up the model on the hub to see if they were resized.
    expected = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
    with safe_open(folder / WEIGHTS, framework="np") as file:
        differing = sorted(expected.symmetric_difference(file.keys()))
    if differing:
        raise ModelError(f"the adapter {str(folder)!r} does not fit this model: {differing[0]}")
    merged: nn.Module = adapted.merge_and_unload(safe_merge=True)
    return merged.eval().requires_grad_(False)
