"""The torch engine: every model, on a CPU or GPUs; other engines are compared with it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, wait
from itertools import chain, islice

import numpy as np
import torch
from torch import nn

from layerdex.choices import Dtype, Pooling
from layerdex.errors import ModelError
from layerdex.indexer.engines.devices import (
    CPU_TOKEN_BUDGET,
    bound_memory,
    choose_devices,
    choose_dtype,
)
from layerdex.indexer.engines.protocol import Batch, ModelSpec, Pooled
from layerdex.indexer.engines.torch.budget import gpu_token_budget, shape_of
from layerdex.indexer.engines.torch.packing import Sample
from layerdex.indexer.engines.torch.padding_check import read_verdict, record_verdict
from layerdex.indexer.engines.torch.replica import Replica, collect
from layerdex.indexer.engines.torch.transfers import PendingArray
from layerdex.indexer.models.loading import (
    check_vocabulary,
    count_positions,
    describe_tokenizer,
    load_model,
    load_tokenizer,
)
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.options import RuntimeOptions
from layerdex.records import Quantization

logger = logging.getLogger(__name__)

_PROBE = "a probe of the layers"


class TorchEngine:
    """A transformers encoder on torch, with one replica per device; implements `Engine`."""

    def __init__(
        self,
        folder: ModelFolder,
        *,
        pooling: Pooling | None,
        runtime: RuntimeOptions,
        packs: bool | None = None,
    ) -> None:
        """Load a model; for ``packs`` see `Replica`. Raises `ModelError` or `OptionError`.

        Spans of a batch are pooled by their mean, whatever ``pooling`` is; without any, all batches
        have spans.
        """
        bound_memory()
        self._devices = choose_devices(runtime.device)
        self.dtype = choose_dtype(runtime.dtype, self._devices[0])
        self.quantization: Quantization | None = None
        self._folder = folder
        self._pooling = pooling or Pooling.MEAN
        module = self._load(self._devices[0])
        tokenizer = load_tokenizer(folder)
        folder.contents.check_unchanged()
        check_vocabulary(module, tokenizer, name=folder.name)
        n_positions = count_positions(module)
        self._sample = Sample(
            ids=np.array(tokenizer(_PROBE)["input_ids"][:n_positions], dtype=np.int64),
            special_ids=np.array(tokenizer.all_special_ids, dtype=np.int64),
            n_positions=n_positions,
        )
        self._replicas = [self._replicate(module, self._devices[0], packs=packs)]
        states = self._replicas[0].states
        self.token_budget = self._choose_budget()
        described = describe_tokenizer(tokenizer, module)
        self.spec = ModelSpec(
            depth=states.depth,
            width=states.width,
            n_positions=n_positions,
            tokenizer=described,
            pads=self._check_padding(described.pad_id),
        )

    @property
    def module(self) -> nn.Module:
        """The model, on the first of the devices."""
        return self._replicas[0].module

    @property
    def packs(self) -> bool:
        """Whether texts are packed, so that there is no padding."""
        return self._replicas[0].packs

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Generator[Pooled]:
        """Yield the batches' vectors in order; see `Engine.pool`.

        Batches go to the devices in rotation and not to whichever is free: two kinds of GPU round
        differently, and a second run must give the same bytes.
        """
        batches = iter(batches)
        first = list(islice(batches, 2))
        replicas = self._replicas_for(len(first))
        n_ahead = 2 * sum(replica.n_workers for replica in replicas)
        running: deque[tuple[Batch, Future[list[PendingArray]]]] = deque()
        try:
            for number, batch in enumerate(chain(first, batches)):
                replica = replicas[number % len(replicas)]
                running.append((batch, replica.submit(batch, layers)))
                if len(running) > n_ahead:
                    yield _finish(*running.popleft())
            while running:
                yield _finish(*running.popleft())
        finally:
            _abandon([future for _, future in running])

    def _replicas_for(self, n_batches: int) -> list[Replica]:
        """Return the replicas to use; a single batch, such as a query, needs no second GPU.

        They are loaded here, while no batch is running. Either all of them pack or none, so that a
        text's vectors do not depend on its device.
        """
        if n_batches < 2:
            return self._replicas[:1]
        for device in self._devices[len(self._replicas) :]:
            module = self._load(device)
            self._folder.contents.check_unchanged()
            self._replicas.append(self._replicate(module, device, packs=self.packs))
        if not all(replica.packs for replica in self._replicas):
            for replica in self._replicas:
                replica.stop_packing()
        return self._replicas

    def _load(self, device: torch.device) -> nn.Module:
        is_half = self.dtype is Dtype.BFLOAT16
        dtype = torch.bfloat16 if is_half else torch.float32
        return load_model(self._folder, device=device, dtype=dtype)

    def _replicate(self, module: nn.Module, device: torch.device, *, packs: bool | None) -> Replica:
        return Replica(module, device, self._sample, self._pooling, packs=packs)

    def _check_padding(self, pad_id: int) -> bool:
        """Return whether batches may be padded; checked once for a model's content."""
        verdict = read_verdict(self._folder)
        if verdict is None:
            try:
                verdict = self._float32_replica().pads(self._sample, pad_id=pad_id)
            except ModelError as error:  # of a long text, which may never come
                logger.debug("batches are not padded: %s", error)
                return False
            record_verdict(self._folder, verdict)
        return verdict

    def _float32_replica(self) -> Replica:
        """Return the model in float32, for a check alone where the engine's own is in another."""
        if self.dtype is Dtype.FLOAT32:
            return self._replicas[0]
        module = load_model(self._folder, device=self._devices[0], dtype=torch.float32)
        return self._replicate(module, self._devices[0], packs=False)

    def _choose_budget(self) -> int:
        device = self._devices[0]
        if device.type != "cuda":
            return CPU_TOKEN_BUDGET
        states = self._replicas[0].states
        shape = shape_of(
            self.module,
            depth=states.depth,
            width=states.width,
            keeps_layers=not states.is_hooked,
        )
        free_bytes, _total = torch.cuda.mem_get_info(device)
        return gpu_token_budget(shape, free_bytes=free_bytes)


def _finish(batch: Batch, future: Future[list[PendingArray]]) -> Pooled:
    return batch.indices, collect(future)


def _abandon(futures: list[Future[list[PendingArray]]]) -> None:
    """Cancel the batches that have not started, and wait for the others."""
    for future in futures:
        future.cancel()
    wait(futures)
