"""Encoders on OpenVINO, and where their graphs are cached."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from layerdex.choices import EngineName, Pooling
from layerdex.indexer.engines.openvino.cache import graph_folder
from layerdex.indexer.models.model_folder import find_model
from tests.indexer import loaded
from tests.tiny_models import DEPTH, sentence

LAYERS = range(DEPTH + 1)
BOUND = 1 - 1e-6
TEXTS = [sentence(n, seed=n) for n in (9, 2, 38, 70, 1, 25, 17, 9, 33)]


# A small budget, for many batches.
load = partial(loaded.load, engine=EngineName.OPENVINO, token_budget=64)


def cached_folder(model: Path) -> Path:
    return graph_folder(find_model(str(model)), Pooling.MEAN)
