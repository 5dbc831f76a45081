"""Conversion of a transformers encoder to an OpenVINO graph, with one pooled output per layer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerdex.choices import Dtype, Pooling
from layerdex.indexer.engines.openvino.cache import new_graph_folder
from layerdex.indexer.engines.openvino.cached_graph import write_graph
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.protocol import Batch, collect_vectors, make_batch
from layerdex.indexer.engines.torch.engine import TorchEngine
from layerdex.indexer.engines.torch.pooling import pool, pool_spans
from layerdex.indexer.models.loading import quiet
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.indexer.text.tokenizer import Tokens, TokenSpans
from layerdex.options import RuntimeOptions

logger = logging.getLogger(__name__)

_TORCH = RuntimeOptions(device="cpu", dtype=Dtype.FLOAT32)
_WORDS = "a probe of the layers, with words and (some) signs: it reads from 1 to 2 pages. "
# Tracing freezes branches on the length, so one probe is as long as most texts ever are.
_LONGEST_PROBE = 1_024


class _PooledLayers(nn.Module):
    """Returns one float32 output per layer: (n, width), or (n, n_spans, width) of spans."""

    def __init__(self, model: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        mask_positions: Tensor | None = None,
        spans: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        states = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=True,
            return_dict=True,
        ).hidden_states
        if spans is not None:
            return tuple(pool_spans(layer_states, spans) for layer_states in states)
        return tuple(
            pool(layer_states, attention_mask, self.pooling, mask_positions=mask_positions)
            for layer_states in states
        )


def convert(folder: ModelFolder, pooling: Pooling | None, target: Path) -> None:
    """Convert a model into the cache, together with torch's vectors of the probe texts.

    A model that OpenVINO cannot convert is recorded as such. Raises `ModelError`, or OSError if the
    cache cannot be written.
    """
    with new_graph_folder(target) as graph_folder:
        engine = TorchEngine(folder, pooling=pooling, runtime=_TORCH)
        batches = _probe_batches(engine, pooling)
        write_graph(
            graph_folder,
            _trace(engine.module, pooling, batches[0], name=folder.name),
            spec=engine.spec,
            batches=batches,
            vectors=_reference(engine, batches),
        )


def _trace(model: nn.Module, pooling: Pooling | None, batch: Batch, *, name: str) -> Any:
    try:
        with torch.inference_mode(), quiet(), warnings.catch_warnings():
            # Tracing warns of each branch on a shape; the probe texts show whether one matters.
            warnings.simplefilter("ignore")
            return import_openvino().convert_model(
                _PooledLayers(model, pooling or Pooling.MEAN),
                example_input={
                    key: torch.from_numpy(array) for key, array in batch.inputs().items()
                },
            )
    except (MemoryError, OSError):  # not the model's fault
        raise
    except Exception:  # of any kind: torch runs this model instead
        logger.info("OpenVINO cannot convert %s", name, exc_info=True)
        return None


def _probe_batches(engine: TorchEngine, pooling: Pooling | None) -> list[Batch]:
    """Return batches, padded and unpadded, of texts from one word to the maximum length."""
    from tokenizers import Tokenizer

    spec = engine.spec
    tokenizer = Tokenizer.from_str(spec.tokenizer.definition)
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(spec.n_positions, _LONGEST_PROBE))
    texts = ["layers", _WORDS, _WORDS * 9, "of 2 pages", _WORDS * 2, _WORDS * 99, "signs"]
    texts.append("a short text, which is compared again in every process")
    ids: list[list[int]] = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    positions = np.arange(len(ids)) % min(map(len, ids)) if pooling is Pooling.MASK else None
    spans = _probe_spans([len(row) for row in ids]) if pooling is None else None
    tokens = Tokens(ids, np.zeros(len(ids), dtype=np.bool_), positions, spans)
    groups: Sequence[Sequence[int]] = ([0, 1, 3], [2, 4, 6], [5], [7])
    return [make_batch(tokens, np.array(group), pad_id=spec.tokenizer.pad_id) for group in groups]


def _probe_spans(lengths: Sequence[int]) -> TokenSpans:
    """Return spans of one to five tokens, and the whole text, of texts of these lengths."""
    parts = []
    for n_tokens in lengths:
        starts = np.arange(0, n_tokens, 3)
        stops = np.minimum(starts + 1 + starts % 5, n_tokens)
        parts.append(np.concatenate([np.stack([starts, stops], axis=1), [[0, n_tokens]]]))
    return TokenSpans(np.concatenate(parts), np.cumsum([0, *map(len, parts)]))


def _reference(engine: TorchEngine, batches: Sequence[Batch]) -> NDArray[np.float32]:
    layers = tuple(range(engine.spec.depth + 1))
    n = sum(len(batch.indices) for batch in batches)  # of texts, or of spans
    return collect_vectors(engine.pool(batches, layers), engine.spec, n)
