"""Loading of torch modules and tokenizers, without running any code of the model folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from layerdex.errors import LayerdexError, ModelError
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.indexer.text.tokenizer import TokenizerSpec

_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def load_model(folder: ModelFolder, *, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Load the encoder for inference. Raises `ModelError`, also for missing weights."""
    with quiet(), _translate_errors(folder):
        config = AutoConfig.from_pretrained(folder.path, **_LOCAL)
        if getattr(config, "is_encoder_decoder", False):
            raise ModelError(f"{folder.name!r} is an encoder-decoder; only encoders are supported")
        model, report = AutoModel.from_pretrained(
            folder.path,
            config=config,
            # With another dtype transformers changes torch's default for all threads.
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **_LOCAL,
        )
        module: nn.Module = model.eval().requires_grad_(False)
        if folder.adapter is not None:
            from layerdex.indexer.models.adapters import merge_adapter

            module = merge_adapter(module, folder.adapter)
        for parameter in module.parameters():  # not buffers, such as rotary embeddings
            parameter.data = parameter.data.to(device, dtype)
        module = module.to(device)
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        n_weights = "a weight" if len(missing) == 1 else f"{len(missing)} weights"
        raise ModelError(
            f"{folder.name!r} lacks {n_weights} of its encoder, such as {missing[0]!r}"
        )
    return module


def load_tokenizer(folder: ModelFolder) -> Any:
    """Load the tokenizer, which must be a fast one. Raises `ModelError`."""
    with quiet(), _translate_errors(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder.path, **_LOCAL)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(f"{folder.name!r} has no fast tokenizer (tokenizer.json)")
    # Without the files transformers makes an empty tokenizer, for which every word is unknown.
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_tokens)):
        raise ModelError(f"{folder.name!r} has no vocabulary: its tokenizer files are missing")
    return tokenizer


def describe_tokenizer(tokenizer: Any) -> TokenizerSpec:
    """Return the parts of a transformers tokenizer that encoding needs."""
    return TokenizerSpec(
        definition=tokenizer.backend_tokenizer.to_str(),
        pad_id=tokenizer.pad_token_id or 0,
        mask_token=tokenizer.mask_token,
        mask_id=tokenizer.mask_token_id,
        unknown_id=tokenizer.unk_token_id,
    )


def count_positions(model: nn.Module, tokenizer: Any) -> int:
    """Return the maximum number of tokens of a text, special tokens included."""
    return min(n_positions_of(model), int(tokenizer.model_max_length))


def n_positions_of(model: nn.Module) -> int:
    """Return the number of positions that a model has for a text's tokens."""
    learned = _learned_positions(model)
    if learned is None:
        return int(getattr(model.config, "max_position_embeddings", 1 << 30))
    return learned.num_embeddings - first_position(model)


def first_position(model: nn.Module) -> int:
    """Return the position of a text's first token."""
    learned = _learned_positions(model)
    if learned is None or learned.padding_idx is None:
        return 0
    # The RoBERTa family counts positions from padding_idx + 1.
    return learned.padding_idx + 1


def _learned_positions(model: nn.Module) -> nn.Embedding | None:
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Disable transformers' progress bars, and its reports of unused heads."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _translate_errors(folder: ModelFolder) -> Iterator[None]:
    try:
        yield
    except LayerdexError:
        raise
    except Exception as error:  # transformers lets the errors of its libraries through
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"cannot load the model {folder.name!r}: {reason[:300]}") from error
