"""Running out of memory, by a model whose passes fail above a number of tokens."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layerdex.choices import Pooling
from layerdex.errors import ModelError
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.torch import replica as replica_file
from layerdex.indexer.engines.torch.hidden_states import Receive
from layerdex.indexer.engines.torch.replica import Replica, collect
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import cosines, torch_engine
from tests.tiny_models import DEPTH, sentence

TEXTS = [sentence(1 + i % 37, seed=i) for i in range(120)]
LAYERS = range(DEPTH + 1)
BUDGET = 1_024


def fail_on_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def fail_on_cpu() -> None:
    torch.empty(1 << 50, dtype=torch.uint8)  # more than an address can name


def fail_in_cpp() -> None:
    raise RuntimeError("std::bad_alloc")


def fail_in_python() -> None:
    raise MemoryError


class SmallMemory:
    """Stands before a replica's passes; ``sizes`` are those that it let through."""

    def __init__(
        self,
        replica: Replica,
        *,
        n_tokens: int,
        patch: pytest.MonkeyPatch,
        fail: Callable[[], None] = fail_on_gpu,
    ) -> None:
        self.n_tokens = n_tokens
        self._fail = fail
        self.sizes: list[int] = []
        self.n_failed = 0
        self._run = replica.states.run
        patch.setattr(replica.states, "run", self.run)

    def run(self, inputs: dict[str, Tensor], layers: Sequence[int], receive: Receive) -> None:
        n_tokens = inputs["input_ids"].numel()
        if n_tokens > self.n_tokens:
            self.n_failed += 1
            self._fail()
        self.sizes.append(n_tokens)
        self._run(inputs, layers, receive)


def load(tiny_model: TinyModel, **options: Any) -> tuple[TransformerEncoder, Replica]:
    # In bfloat16 a batch's size alone changes vectors by more than the tolerances here.
    encoder = loaded.load(tiny_model("bert"), token_budget=BUDGET, **options)
    return encoder, torch_engine(encoder)._replicas[0]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("n_tokens", [600, 300, 100, 40])
@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLS, Pooling.MAX, Pooling.MASK])
def test_halved_batches_give_the_same_vectors(
    pooling: Pooling, n_tokens: int, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{text} [MASK]" if pooling is Pooling.MASK else "{text}"
    encoder, replica = load(tiny_model, pooling=pooling, template=template)
    expected = encoder.encode(TEXTS, LAYERS).vectors
    memory = SmallMemory(replica, n_tokens=n_tokens, patch=monkeypatch)

    found = encoder.encode(TEXTS, LAYERS).vectors

    assert memory.n_failed
    assert max(memory.sizes) <= n_tokens
    assert cosines(found, expected).min() > 0.99999


@pytest.mark.parametrize("fail", [fail_on_gpu, fail_on_cpu, fail_in_cpp, fail_in_python])
def test_whatever_ran_out_of_memory_batches_are_halved(
    fail: Callable[[], None], tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, replica = load(tiny_model)
    expected = encoder.encode(TEXTS, LAYERS).vectors
    memory = SmallMemory(replica, n_tokens=300, patch=monkeypatch, fail=fail)

    found = encoder.encode(TEXTS, LAYERS).vectors

    assert memory.n_failed
    assert cosines(found, expected).min() > 0.99999


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("CUDA error:\n unspecified"), r"\(CUDA error: unspecified\): try another"),
        (RuntimeError(), r"\(RuntimeError\): try another"),
        # What no other device helps against.
        (RuntimeError("shape '[3]' is invalid"), r"\(shape '\[3\]' is invalid\)$"),
        (IndexError("index out of range in self"), r"\(index out of range in self\)$"),
        (TypeError("missing 'bbox'"), r"\(missing 'bbox'\)$"),
    ],
)
def test_other_errors_of_a_pass_are_clear(
    error: Exception, said: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, replica = load(tiny_model)
    n_tried = []

    def fail(*_args: object) -> None:
        n_tried.append(1)
        raise error

    monkeypatch.setattr(replica.states, "run", fail)

    with pytest.raises(ModelError, match=f"torch cannot run this model {said}"):
        encoder.encode(["a dog"], LAYERS)
    assert len(n_tried) == 1


def test_a_late_error_of_a_gpu_is_clear() -> None:
    class Lost:
        def wait(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access")

    result: Future[Any] = Future()
    result.set_result([Lost()])

    with pytest.raises(ModelError, match=r"\(CUDA error: an illegal memory access\)"):
        collect(result)


def test_a_model_that_fails_on_the_probe_is_a_clear_error(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_file, "HiddenStates", lambda *_args: fail_in_cpp())

    with pytest.raises(ModelError, match="torch cannot run this model"):
        load(tiny_model)


def test_later_batches_keep_to_what_fitted(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoder, replica = load(tiny_model)
    memory = SmallMemory(replica, n_tokens=600, patch=monkeypatch)
    with caplog.at_level(logging.WARNING, "layerdex"):
        encoder.encode(TEXTS, LAYERS)
        encoder.encode(TEXTS, LAYERS)

    assert memory.n_failed == 1
    assert max(memory.sizes) <= BUDGET // 2
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "out of memory on cpu" in record.getMessage()
    assert encoder.settings.token_budget == BUDGET


def test_the_same_memory_gives_the_same_bytes(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for _ in range(2):
        encoder, replica = load(tiny_model)
        SmallMemory(replica, n_tokens=300, patch=monkeypatch)
        found.append(encoder.encode(TEXTS, LAYERS).vectors)

    np.testing.assert_array_equal(found[0], found[1])


def test_a_single_text_that_does_not_fit_is_a_clear_error(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, replica = load(tiny_model)
    SmallMemory(replica, n_tokens=20, patch=monkeypatch)

    with pytest.raises(
        ModelError,
        match=r"out of memory on cpu with a single text of \d+ tokens: .* smaller --max-length$",
    ):
        encoder.encode(TEXTS, LAYERS)
    assert encoder.encode(["a dog"], [1]).vectors.any()


def test_the_failed_pass_is_let_go_before_the_next_try(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, replica = load(tiny_model)
    run = replica.states.run
    failed: list[weakref.ref[Tensor]] = []

    def fail_late(inputs: dict[str, Tensor], layers: Sequence[int], receive: Receive) -> None:
        assert [one for one in failed if one() is not None] == []
        if inputs["input_ids"].numel() > 300:
            activations = torch.zeros(8)
            failed.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        run(inputs, layers, receive)

    monkeypatch.setattr(replica.states, "run", fail_late)
    gc.disable()  # what only the collector frees still fills a GPU
    try:
        encoder.encode(TEXTS, LAYERS)
    finally:
        gc.enable()
    assert failed
