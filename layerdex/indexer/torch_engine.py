"""The torch engine: every model, CPU or GPU; the measure that other engines are held to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerdex.indexer.devices import (
    CPU_TOKEN_BUDGET,
    GPU_TOKEN_BUDGET,
    Precision,
    bound_memory,
    choose_device,
    choose_precision,
)
from layerdex.indexer.engine import Batch, ModelFacts, Pooled
from layerdex.indexer.hidden_states import HiddenStates
from layerdex.indexer.loading import (
    count_positions,
    describe_tokenizer,
    load_model,
    load_tokenizer,
)
from layerdex.indexer.models import ModelFolder
from layerdex.indexer.pooling import pool
from layerdex.records import Pooling

_PROBE = "a probe of the layers"
_MAX_WORKERS = 8


class TorchEngine:
    """A transformers encoder on torch, behind the `Engine` protocol."""

    def __init__(
        self, folder: ModelFolder, *, pooling: Pooling, device: str, precision: Precision
    ) -> None:
        """Load a model. Raises `ModelError` or `OptionError`."""
        bound_memory()
        self._device = choose_device(device)
        self.precision = choose_precision(precision, self._device)
        dtype = torch.bfloat16 if self.precision is Precision.BFLOAT16 else torch.float32
        self._pooling = pooling
        self.module = load_model(folder, device=self._device, dtype=dtype)
        tokenizer = load_tokenizer(folder)
        n_positions = count_positions(self.module, tokenizer)
        probe = torch.tensor([tokenizer(_PROBE)["input_ids"][:n_positions]], device=self._device)
        with torch.inference_mode():
            inputs = {"input_ids": probe, "attention_mask": torch.ones_like(probe)}
            self._states = HiddenStates(self.module, inputs)
        is_gpu = self._device.type == "cuda"
        self.token_budget = GPU_TOKEN_BUDGET if is_gpu else CPU_TOKEN_BUDGET
        # Workers of one thread each never wait for one another within a layer: 1.4 times as fast
        # on two cores. Python itself keeps more than a few from working at once.
        n_threads = torch.get_num_threads()
        self._n_workers = 1 if is_gpu else min(n_threads, _MAX_WORKERS)
        self._workers = (
            None
            if self._n_workers == 1
            else _start_workers(self._n_workers, n_threads_each=-(-n_threads // self._n_workers))
        )
        self.facts = ModelFacts(
            depth=self._states.depth,
            width=self._states.width,
            n_positions=n_positions,
            tokenizer=describe_tokenizer(tokenizer),
        )

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Generator[Pooled]:
        """Yield the batches' vectors in order; see `Engine.pool`."""
        if self._workers is None:
            for batch in batches:
                yield batch.places, self._pool(batch, layers)
            return
        at_work: deque[tuple[Batch, Future[list[NDArray[np.float32]]]]] = deque()
        try:
            for batch in batches:
                at_work.append((batch, self._workers.submit(self._pool, batch, layers)))
                if len(at_work) > 2 * self._n_workers:
                    done, future = at_work.popleft()
                    yield done.places, future.result()
            while at_work:
                done, future = at_work.popleft()
                yield done.places, future.result()
        finally:  # an interruption must leave none running
            wait([future for _, future in at_work if not future.cancel()])

    @torch.inference_mode()
    def _pool(self, batch: Batch, layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        mask = self._to_device(batch.mask)
        positions = batch.mask_positions
        mask_positions = None if positions is None else self._to_device(positions)
        pooled: list[Tensor] = []

        def receive(_layer: int, states: Tensor) -> None:
            pooled.append(pool(states, mask, self._pooling, mask_positions=mask_positions))

        inputs = {"input_ids": self._to_device(batch.ids), "attention_mask": mask}
        self._states.run(inputs, layers, receive)
        return [vectors.cpu().numpy() for vectors in pooled]

    def _to_device(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _start_workers(n_workers: int, *, n_threads_each: int) -> ThreadPoolExecutor:
    """Start all workers now, as torch's number of threads is set in each and for later ones."""
    n_threads = torch.get_num_threads()
    started = threading.Barrier(n_workers + 1)

    def initialize() -> None:
        torch.set_num_threads(n_threads_each)
        started.wait()

    workers = ThreadPoolExecutor(n_workers, "layerdex-torch", initialize)
    try:
        for _ in range(n_workers):
            workers.submit(int)
    except BaseException:
        started.abort()
        raise
    started.wait()
    torch.set_num_threads(n_threads)
    return workers
