from __future__ import annotations

import numpy as np
import pytest
import torch

from layerdex.errors import ModelError
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engine import EngineName
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import torch_engine
from tests.tiny_models import DEPTH, FAMILIES, sentence

TEXTS = [sentence(1 + i % 37, seed=i) for i in range(120)]


@pytest.mark.parametrize("family", FAMILIES)
def test_workers_give_the_bytes_of_one_thread(
    family: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tiny_model(family))
    alone = TransformerEncoder(folder, token_budget=64, engine=EngineName.TORCH, device="cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    together = TransformerEncoder(folder, token_budget=64, engine=EngineName.TORCH, device="cpu")
    monkeypatch.undo()
    torch.set_num_threads(1)

    assert torch_engine(alone)._workers is None
    assert torch_engine(together)._workers is not None
    for layers in (range(DEPTH + 1), (0, 2)):
        found, expected = (one.encode(TEXTS, layers).vectors for one in (together, alone))
        np.testing.assert_array_equal(found, expected)


def test_a_workers_error_comes_through(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    encoder = TransformerEncoder(str(tiny_model("bert")), engine=EngineName.TORCH, device="cpu")
    monkeypatch.undo()
    torch.set_num_threads(1)

    def fail(*_args: object) -> None:
        raise ModelError("out of order")

    monkeypatch.setattr(torch_engine(encoder)._states, "run", fail)
    with pytest.raises(ModelError, match="out of order"):
        encoder.encode(TEXTS, [1])
