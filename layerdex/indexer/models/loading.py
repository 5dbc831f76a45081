"""Loading of torch modules and tokenizers, without running any code of the model folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tokenizers import normalizers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from layerdex.errors import LayerdexError, ModelError
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.indexer.models.transformer_settings import NO_LIMIT
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
    with quiet(), _translate_errors(folder, part="its tokenizer: "):
        tokenizer = AutoTokenizer.from_pretrained(folder.path, **_LOCAL)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(f"{folder.name!r} has no fast tokenizer (tokenizer.json)")
    # Without the files transformers makes an empty tokenizer, for which every word is unknown.
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_tokens)):
        raise ModelError(f"{folder.name!r} has no vocabulary: its tokenizer files are missing")
    tokenizer.model_max_length = _to_limit(tokenizer.model_max_length)
    if folder.lowercases:
        _lower_first(tokenizer.backend_tokenizer)
    return tokenizer


def _lower_first(tokenizer: Any) -> None:
    """Lower texts before all else, but for special tokens, as sentence-transformers does."""
    steps = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def check_vocabulary(model: nn.Module, tokenizer: Any, *, name: str) -> None:
    """Raise `ModelError` if a token of the tokenizer, special or added, has no embedding.

    torch would fail at the first text that has it, and OpenVINO read memory behind the table.
    """
    n_rows = n_embeddings_of(model)
    if n_rows is None:
        return
    ids = [*tokenizer.get_vocab().values(), *tokenizer("")["input_ids"]]
    highest = max(ids)
    if highest >= n_rows:
        raise ModelError(
            f"the tokenizer of {name!r} has tokens up to id {highest} "
            f"({tokenizer.convert_ids_to_tokens(highest)!r}), but the model has embeddings of "
            f"{n_rows} tokens only: enlarge and train the model (resize_token_embeddings), or "
            "remove the tokens that were added to the tokenizer"
        )


def n_embeddings_of(model: nn.Module) -> int | None:
    """Return the number of tokens that a model has embeddings of.

    None for a model that computes them from characters or hashes.
    """
    try:
        table = getattr(model.get_input_embeddings(), "weight", None)  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    return len(table) if isinstance(table, torch.Tensor) and table.ndim == 2 else None


def describe_tokenizer(tokenizer: Any, model: nn.Module | None = None) -> TokenizerSpec:
    """Return the parts of a transformers tokenizer that encoding needs.

    ``model`` names the padding where the tokenizer does not.
    """
    return TokenizerSpec(
        definition=tokenizer.backend_tokenizer.to_str(),
        pad_id=_pad_id(tokenizer, model),
        mask_token=tokenizer.mask_token,
        mask_id=tokenizer.mask_token_id,
        unknown_id=tokenizer.unk_token_id,
        max_length=None if (limit := tokenizer.model_max_length) >= NO_LIMIT else limit,
        keeps_end=tokenizer.truncation_side == "left",
    )


def _pad_id(tokenizer: Any, model: nn.Module | None) -> int:
    """Return the id that fills up shorter texts; it is masked, so that any known one will do."""
    of_model = getattr(getattr(model, "config", None), "pad_token_id", None)
    candidates = (tokenizer.pad_token_id, of_model, tokenizer.eos_token_id)
    n_tokens = len(tokenizer)
    return next((i for i in candidates if isinstance(i, int) and 0 <= i < n_tokens), 0)


def count_positions(model: nn.Module) -> int:
    """Return the most tokens of a text that a model has positions for, special ones included."""
    stated = _to_limit(getattr(model.config, "max_position_embeddings", None))
    learned = _learned_positions(model)
    if learned is None:
        return stated
    # YOSO's table has two rows more than there are positions.
    return min(stated, len(learned.weight) - first_position(model))


def _to_limit(value: object) -> int:
    """Return a limit, or `NO_LIMIT` for None, -1, 0, 1e30 and whatever else states none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NO_LIMIT
    return int(value) if 1 <= value < NO_LIMIT else NO_LIMIT


def first_position(model: nn.Module) -> int:
    """Return the position of a text's first token."""
    padding_id = getattr(_learned_positions(model), "padding_idx", None)
    # The RoBERTa family counts positions from padding_idx + 1.
    return 0 if padding_id is None else int(padding_id) + 1


def _learned_positions(model: nn.Module) -> Any:
    """Return the table of positions, if there is one: an embedding, or I-BERT's own kind of it."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and hasattr(module, "weight"):
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
def _translate_errors(folder: ModelFolder, *, part: str = "") -> Iterator[None]:
    try:
        yield
    except LayerdexError:
        raise
    except Exception as error:  # transformers lets the errors of its libraries through
        reason = " ".join(str(error).split()) or type(error).__name__
        what, damaged = f"model {folder.name!r}", _find_damaged(folder.path)
        if damaged is None and folder.adapter is not None:
            damaged = _find_damaged(folder.adapter)
            what = what if damaged is None else f"adapter {str(folder.adapter)!r}"
        where = part if damaged is None else f"{damaged}: "
        raise ModelError(f"cannot load the {what}: {where}{reason[:300]}") from error


def _find_damaged(folder: Path) -> Path | None:
    """Return a file that cannot be parsed, which the errors of the libraries do not name."""
    for file in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")):
        try:
            if file.suffix == ".json":
                json.loads(file.read_bytes())
            else:
                with safe_open(file, framework="pt"):
                    pass
        except Exception:  # whatever the parsers raise
            return file
    return None
