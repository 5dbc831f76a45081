"""Whether padding changes a model's token states, so that it must not be padded.

A mask keeps other tokens from attending to padding. It does not keep padding out of convolutions
(ConvBERT, MobileBERT's bottleneck norms), Fourier transforms (FNet) or hashed attention (YOSO), and
some models use another attention beyond a certain length (BigBird).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import Tensor

from layerdex.errors import ModelError
from layerdex.indexer.cache.location import cache_folder, make_cache_folder, write_whole
from layerdex.indexer.cache.sealed_json import dump_sealed, load_sealed
from layerdex.indexer.engines.torch.hidden_states import HiddenStates
from layerdex.indexer.engines.torch.packing import Ids, Sample
from layerdex.indexer.engines.torch.transfers import Transfers
from layerdex.indexer.models.fingerprint import model_digest
from layerdex.indexer.models.model_folder import ModelFolder

logger = logging.getLogger(__name__)

# Two texts, each alone and padded to a little more and to much more than its length.
_LENGTHS = (5, 24)
_PADDED = (28, 1_024)
# Largest distance of two states of a token, as a share of their length: a cosine of 0.99999.
_MAX_DISTANCE = 0.0045
# Increase it when the check changes, so that older verdicts are not used.
_CHECK_VERSION = 1


def changes_nothing(
    states: HiddenStates, sample: Sample, transfers: Transfers, *, pad_id: int
) -> bool:
    """Return whether every token has the same states alone and padded, at every layer.

    The model is in float32: in half precision rounding would hide a difference. Raises `ModelError`
    for states that are not finite, which say nothing about padding.
    """
    lengths = [min(n_tokens, sample.n_positions) for n_tokens in _LENGTHS]
    texts = [np.resize(sample.ids, n_tokens) for n_tokens in lengths]
    alone = [_run(states, transfers, [text], pad_id=pad_id)[0] for text in texts]
    if not all(bool(layer.isfinite().all()) for layers in alone for layer in layers):
        raise ModelError("its states are not finite")
    for n_padded in _PADDED:
        longest = np.resize(sample.ids, min(n_padded, sample.n_positions))
        padded = _run(states, transfers, [*texts, longest], pad_id=pad_id)
        if not all(map(_are_near, alone, padded)):
            return False
    return True


def _run(
    states: HiddenStates, transfers: Transfers, texts: Sequence[Ids], *, pad_id: int
) -> list[list[Tensor]]:
    """Return the token states (n_tokens, width) of each text, by layer."""
    shape = len(texts), max(map(len, texts))
    ids, mask = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for i, text in enumerate(texts):
        ids[i, : len(text)], mask[i, : len(text)] = text, 1
    inputs = {"input_ids": transfers.upload(ids), "attention_mask": transfers.upload(mask)}
    layers: list[Tensor] = []
    states.run(inputs, range(states.depth + 1), lambda _, layer: layers.append(layer))
    return [[layer[i, : len(text)] for layer in layers] for i, text in enumerate(texts)]


def _are_near(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    # Written so that NaN fails, and states that are all zero do not.
    return all(
        bool(((x - y).norm(dim=-1) <= _MAX_DISTANCE * x.norm(dim=-1)).all())
        for x, y in zip(left, right, strict=True)
    )


def read_verdict(folder: ModelFolder) -> bool | None:
    """Return what was recorded for a model's content, or None."""
    try:
        content = load_sealed(_verdict_path(folder).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    # Named by its model, as a file may be put in the place of another's.
    return bool(content["pads"]) if content.get("model") == _verdict_name(folder) else None


def record_verdict(folder: ModelFolder, verdict: bool) -> None:
    """Record the verdict for a model's content; a cache that cannot be written is no error."""
    try:
        path = _verdict_path(folder)
        make_cache_folder(path.parent)
        write_whole(path, dump_sealed({"model": _verdict_name(folder), "pads": verdict}))
    except OSError as error:
        logger.debug("the verdict on padding is not kept: %s", error)


def _verdict_path(folder: ModelFolder) -> Path:
    return cache_folder("padding") / _verdict_name(folder)


def _verdict_name(folder: ModelFolder) -> str:
    versions = [version(name) for name in ("torch", "transformers")]
    key = json.dumps([_CHECK_VERSION, versions, model_digest(folder.contents)])
    return hashlib.sha256(key.encode()).hexdigest()[:32]
