"""A transformers encoder to an OpenVINO graph with one pooled output a layer."""

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

from layerdex.indexer.devices import Precision
from layerdex.indexer.engine import Batch, make_batch
from layerdex.indexer.loading import quiet
from layerdex.indexer.models import ModelFolder
from layerdex.indexer.openvino_cache import PROBE, import_openvino, save_graph, write_facts
from layerdex.indexer.pooling import pool
from layerdex.indexer.tokenizing import Tokens
from layerdex.indexer.torch_engine import TorchEngine
from layerdex.records import Pooling

logger = logging.getLogger(__name__)

_WORDS = "a probe of the layers, with words and (some) signs: it reads from 1 to 2 pages. "


class _PooledLayers(nn.Module):
    """Gives one (n, width) float32 output a layer."""

    def __init__(self, model: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, mask_positions: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        states = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=True,
            return_dict=True,
        ).hidden_states
        return tuple(
            pool(one, attention_mask, self.pooling, mask_positions=mask_positions) for one in states
        )


def convert(folder: ModelFolder, pooling: Pooling, target: Path) -> None:
    """Write into ``target`` the graph, what must be known of it, and vectors to check it by.

    Where OpenVINO cannot convert the model, only the graph is missing.
    """
    ov = import_openvino()
    engine = TorchEngine(folder, pooling=pooling, device="cpu", precision=Precision.FLOAT32)
    batches = _probe_batches(engine, pooling)
    _write_probe(engine, batches, target / PROBE)
    try:
        with torch.inference_mode(), quiet(), warnings.catch_warnings():
            # Of each Python branch on a shape; the probe tells whether one mattered.
            warnings.simplefilter("ignore")
            example = {"input_ids": batches[0].ids, "attention_mask": batches[0].mask}
            if batches[0].mask_positions is not None:
                example["mask_positions"] = batches[0].mask_positions
            graph = ov.convert_model(
                _PooledLayers(engine.module, pooling),
                example_input={name: torch.from_numpy(one) for name, one in example.items()},
            )
        save_graph(ov, graph, target)
    except Exception:  # whatever the conversion's many parts raise: torch computes this model
        logger.info("OpenVINO cannot convert %s", folder.name, exc_info=True)
    write_facts(target, engine.facts, {})


def _probe_batches(engine: TorchEngine, pooling: Pooling) -> list[Batch]:
    """Return padded and unpadded batches of texts from one word to what the model takes."""
    from tokenizers import Tokenizer

    facts = engine.facts
    tokenizer = Tokenizer.from_str(facts.tokenizer.definition)
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(facts.n_positions, 256))
    texts = ["layers", _WORDS, _WORDS * 9, "of 2 pages", _WORDS * 2, _WORDS, "signs"]
    ids: list[list[int]] = [one.ids for one in tokenizer.encode_batch(texts)]
    positions = np.arange(len(ids)) % min(map(len, ids)) if pooling is Pooling.MASK else None
    tokens = Tokens(ids, np.zeros(len(ids), dtype=np.bool_), positions)
    places: Sequence[Sequence[int]] = ([0, 1, 3], [2, 4, 6], [5])
    return [make_batch(tokens, np.array(one), pad_id=facts.tokenizer.pad_id) for one in places]


def _write_probe(engine: TorchEngine, batches: Sequence[Batch], path: Path) -> None:
    layers = tuple(range(engine.facts.depth + 1))
    n = sum(len(batch.places) for batch in batches)
    vectors = np.empty((len(layers), n, engine.facts.width), dtype=np.float32)
    arrays: dict[str, NDArray[Any]] = {"vectors": vectors, "n_batches": np.array(len(batches))}
    for i, batch in enumerate(batches):
        arrays |= {f"{name}_{i}": getattr(batch, name) for name in ("places", "ids", "mask")}
        if batch.mask_positions is not None:
            arrays[f"mask_positions_{i}"] = batch.mask_positions
    for places, pooled in engine.pool(batches, layers):
        for layer, of_layer in enumerate(pooled):
            vectors[layer, places] = of_layer
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
