"""A copy of the model on one device, and the threads that run batches on it."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerdex.choices import Pooling
from layerdex.errors import LayerdexError, ModelError
from layerdex.forks import renew_after_fork
from layerdex.indexer.engines.protocol import Batch, is_span
from layerdex.indexer.engines.torch.hidden_states import HiddenStates, Inputs
from layerdex.indexer.engines.torch.packed_attention import restore_attention
from layerdex.indexer.engines.torch.packing import Packer, Sample, make_packer, packed_spans
from layerdex.indexer.engines.torch.padding_check import changes_nothing
from layerdex.indexer.engines.torch.pooling import (
    pool,
    pool_packed,
    pool_packed_spans,
    pool_spans,
)
from layerdex.indexer.engines.torch.transfers import PendingArray, Transfers
from layerdex.indexer.engines.torch.workers import reason_of, start_workers

logger = logging.getLogger(__name__)

_MAX_WORKERS = 8
# torch has no exception class for a CPU that is out of memory.
_NO_MEMORY = ("DefaultCPUAllocator", "std::bad_alloc")
# Shapes that do not fit are the same on every device and in every dtype.
_OF_SHAPES = re.compile(r"\bshapes?\b|must match", re.IGNORECASE)


class Replica:
    """A model on one device that pools batches, in halves if memory is short.

    A CPU has one worker per core, at most 8; a GPU has one, which launches batches and never waits
    for their results.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        sample: Sample,
        pooling: Pooling,
        *,
        packs: bool | None = None,
    ) -> None:
        """Use a model that is on ``device``; it is checked on ``sample``.

        ``packs`` says whether to try packing (see `packing`); None means on a GPU in half
        precision, for which there is a kernel. Raises `ModelError` for a model without hidden
        states, or one that cannot be run.
        """
        self.module = module
        self._device = device
        self._pooling = pooling
        self._transfers = Transfers(device)
        not_supported = f"models such as {type(module).__name__} are not supported"
        with torch.inference_mode(), _translate_errors(otherwise=not_supported):
            ids = self._transfers.upload(sample.ids[None])
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            self.states = HiddenStates(module, inputs)
            may_pack = _has_kernel(module, device) if packs is None else packs
            self._packer = self._try_packing(sample) if may_pack else None
        # Workers with one thread each never wait for one another within a layer: 1.4 times as fast
        # on two cores. Beyond a few workers Python's lock is the limit.
        n_threads = torch.get_num_threads()
        self.n_workers = 1 if device.type == "cuda" else min(n_threads, _MAX_WORKERS)
        self._n_threads_each = -(-n_threads // self.n_workers)
        self._workers: ThreadPoolExecutor | None = self._start_workers()
        self._max_tokens: int | None = None  # set after running out of memory
        renew_after_fork(self, Replica._renew)

    def _start_workers(self) -> ThreadPoolExecutor:
        return start_workers(
            self.n_workers, n_threads_each=self._n_threads_each, device=self._device
        )

    def _renew(self) -> None:
        self._workers = None

    @property
    def packs(self) -> bool:
        """Whether texts are run end to end, without padding."""
        return self._packer is not None

    def pads(self, sample: Sample, *, pad_id: int) -> bool:
        """Return whether padding leaves all states as they are (see `padding_check`)."""
        with torch.inference_mode(), _translate_errors():
            return changes_nothing(self.states, sample, self._transfers, pad_id=pad_id)

    def stop_packing(self) -> None:
        """Pad batches from now on, with the original attention; no batch may be running."""
        self._packer = None
        restore_attention(self.module)

    def _try_packing(self, sample: Sample) -> Packer | None:
        try:
            return make_packer(self.module, self.states, sample, self._pooling, self._transfers)
        except Exception as error:  # models and kernels raise many kinds
            logger.log(
                # A lack of memory is not the model's fault, and may be temporary.
                logging.WARNING if _is_out_of_memory(error) else logging.DEBUG,
                "%s on %s runs on padded batches: %s",
                type(self.module).__name__,
                self._device,
                reason_of(error),
            )
            return None

    def submit(self, batch: Batch, layers: tuple[int, ...]) -> Future[list[PendingArray]]:
        """Start a batch in a worker; `collect` waits for its result.

        Raises `ModelError` on a GPU in a forked process, where CUDA does not work.
        """
        if self._workers is None:
            if self._device.type == "cuda":
                raise ModelError(
                    f"this process was forked after the model was loaded on {self._device}, and "
                    "CUDA does not work in it: start processes with 'spawn', or fork before "
                    "the model is loaded"
                )
            self._workers = self._start_workers()
        return self._workers.submit(self._pool, batch, layers)

    @torch.inference_mode()
    def _pool(self, batch: Batch, layers: tuple[int, ...]) -> list[PendingArray]:
        """Return the vectors of a batch, (n_layers, n, width) float32, in one or more slices."""
        pending, results = deque([batch]), []
        while pending:
            texts = pending.popleft()
            if self._is_too_large(texts):
                pending.extendleft(reversed(texts.halves()))
                continue
            vectors = self._run_if_it_fits(texts, layers)
            if vectors is None:
                self._lower_limit(texts)
                pending.appendleft(texts)
            else:
                results.append(vectors)
        return results

    def _is_too_large(self, batch: Batch) -> bool:
        is_divisible = len(batch.ids) > 1
        return is_divisible and batch.ids.size > (self._max_tokens or batch.ids.size)

    def _run_if_it_fits(self, batch: Batch, layers: tuple[int, ...]) -> PendingArray | None:
        """Run a batch, or return None if the device is out of memory."""
        try:
            return self._run(batch, layers)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        # The exception kept the tensors of the failed pass alive; here it is gone.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _lower_limit(self, failed: Batch) -> None:
        n_texts, n_tokens = failed.ids.shape
        if n_texts == 1:
            elsewhere = " or --device cpu" if self._device.type == "cuda" else ""
            raise ModelError(
                f"out of memory on {self._device} with a single text of {n_tokens} tokens: "
                f"free memory, or choose a smaller --max-length{elsewhere}"
            )
        # Workers share the limit: none may raise what another has lowered.
        limit = failed.ids.size // 2
        self._max_tokens = min(limit, self._max_tokens or limit)
        logger.warning(
            "out of memory on %s with a batch of %d tokens: batches now have at most %d tokens",
            self._device,
            failed.ids.size,
            self._max_tokens,
        )

    def _run(self, batch: Batch, layers: tuple[int, ...]) -> PendingArray:
        inputs, pool_states = self._prepare(batch)
        pooled: list[Tensor] = []
        self.states.run(inputs, layers, lambda _, states: pooled.append(pool_states(states)))
        return self._transfers.download(torch.stack(pooled))  # (n_layers, n, width)

    def _prepare(self, batch: Batch) -> tuple[Inputs, Callable[[Tensor], Tensor]]:
        """Return the model's inputs for a batch, and the function that pools a layer's states."""
        # A text without tokens cannot be packed.
        if self._packer is not None and batch.mask.any(axis=1).all():
            return self._prepare_packed(self._packer, batch)
        upload = self._transfers.upload
        mask = upload(batch.mask)
        inputs = {"input_ids": upload(batch.ids), "attention_mask": mask}
        if batch.spans is None:
            return inputs, partial(
                pool, mask=mask, pooling=self._pooling, mask_positions=self._mask_positions(batch)
            )
        spans, kept = upload(batch.spans), upload(np.flatnonzero(is_span(batch.spans)))
        return inputs, lambda states: pool_spans(states, spans).flatten(0, 1).index_select(0, kept)

    def _prepare_packed(
        self, packer: Packer, batch: Batch
    ) -> tuple[Inputs, Callable[[Tensor], Tensor]]:
        inputs, offsets = packer.pack(batch.ids, batch.mask)
        if batch.spans is None:
            return inputs, partial(
                pool_packed,
                offsets=offsets,
                pooling=self._pooling,
                mask_positions=self._mask_positions(batch),
            )
        tokens, bounds = packed_spans(batch.spans, batch.mask)
        upload = self._transfers.upload
        return inputs, partial(pool_packed_spans, tokens=upload(tokens), offsets=upload(bounds))

    def _mask_positions(self, batch: Batch) -> Tensor | None:
        positions = batch.mask_positions
        return None if positions is None else self._transfers.upload(positions)


def _has_kernel(module: nn.Module, device: torch.device) -> bool:
    dtype = next(module.parameters()).dtype
    return device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)


def collect(result: Future[list[PendingArray]]) -> list[NDArray[np.float32]]:
    """Wait for a batch; return its unit vectors by layer, (n, width) float32 each.

    Raises `ModelError` for an error of the pass; a GPU may report it only now.
    """
    with _translate_errors():
        arrays = [pending.wait() for pending in result.result()]
    return list(arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1))


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in _NO_MEMORY)


@contextmanager
def _translate_errors(*, otherwise: str = "") -> Iterator[None]:
    """Raise `ModelError` for an error in a pass, with advice where it may help."""
    try:
        yield
    except LayerdexError:
        raise
    except Exception as error:  # models raise many kinds in a pass, not only torch's own
        reason = reason_of(error)
        is_of_torch = isinstance(error, RuntimeError | MemoryError)
        may_depend = is_of_torch and not _OF_SHAPES.search(reason)
        advice = "try another --device or --dtype" if may_depend else otherwise
        raise ModelError(
            f"torch cannot run this model ({reason}){': ' if advice else ''}{advice}"
        ) from error
