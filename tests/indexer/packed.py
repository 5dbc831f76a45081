"""Replicas that pack on the CPU, with attention text by text in place of the GPU's kernel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerdex.choices import Pooling
from layerdex.indexer.engines.protocol import Batch, make_batch
from layerdex.indexer.engines.torch.packing import Sample
from layerdex.indexer.engines.torch.replica import Replica, collect
from layerdex.indexer.text.tokenizer import Tokens
from tests.tiny_models import DEPTH, FAMILIES, N_POSITIONS

CPU = torch.device("cpu")
PACKED = [name for name, family in FAMILIES.items() if family.packs]
UNPACKED = [name for name, family in FAMILIES.items() if not family.packs]
LAYERS = tuple(range(DEPTH + 1))
LENGTHS = [N_POSITIONS, 1, 17, 2, N_POSITIONS, 9]
SPECIAL_IDS = np.arange(5)


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> Any:
    """Load a model as the engine does, whose attention is transformers' own choice."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()


def make_replica(
    model: Any,
    *,
    pool_by: Pooling = Pooling.MEAN,
    packs: bool | None = True,
    n_positions: int = N_POSITIONS,
) -> Replica:
    ids = np.array([2, 20, 31, 14, 55, 40, 3])
    return Replica(model, CPU, Sample(ids, SPECIAL_IDS, n_positions), pool_by, packs=packs)


def random_batch(lengths: Sequence[int], *, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(10, 60, size=length).tolist() for length in lengths]
    positions = rng.integers(0, lengths)
    tokens = Tokens(ids, np.zeros(len(ids), dtype=np.bool_), positions)
    return make_batch(tokens, np.arange(len(ids)), pad_id=0)


def vectors_of(
    replica: Replica, batch: Batch, layers: tuple[int, ...] = LAYERS
) -> NDArray[np.float32]:
    return np.array(collect(replica.submit(batch, layers)))


def assert_stays_as_it_was(model: Any, *, n_positions: int = N_POSITIONS) -> None:
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, packs=False), batch)
    before = model.config.to_dict()

    replica = make_replica(model, n_positions=n_positions)

    assert not replica.packs
    assert model.config._attn_implementation == "sdpa"
    assert model.config.to_dict() == before
    np.testing.assert_array_equal(vectors_of(replica, batch), expected)
