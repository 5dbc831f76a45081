"""The OpenVINO engine: faster than torch on a CPU, and needs no torch once a model is cached.

Each core runs small batches of its own on one thread, so that the activations fit in its cache;
this measured faster than one batch on all cores. A single batch, such as a query, gets a graph
compiled for one core, as compiling for all takes longer.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from layerdex.choices import Dtype, EngineName, Pooling
from layerdex.errors import ModelError
from layerdex.forks import abandon, renew_after_fork
from layerdex.indexer.engines.devices import cpu_has_bfloat16
from layerdex.indexer.engines.openvino.cache import (
    CachedGraph,
    find_graph,
    import_openvino,
)
from layerdex.indexer.engines.protocol import Batch, Engine, ModelSpec, Pooled
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.options import RuntimeOptions
from layerdex.records import Vectors

logger = logging.getLogger(__name__)

# Tokens per batch, for one core. In float32 (Zen 3) 256 to 512 are equally fast; in bfloat16 (Zen
# 5) activations are half as large, and 1,024 are a tenth faster than 512.
_TOKEN_BUDGETS = {Dtype.FLOAT32: 512, Dtype.BFLOAT16: 1_024}
# One runs and one waits, so that no core is idle while a result is fetched.
_REQUESTS_PER_CORE = 2
_HINTS = {Dtype.FLOAT32: "f32", Dtype.BFLOAT16: "bf16"}
# Lowest allowed cosine to torch in float32, over all layers of the probe texts.
_TOLERANCES = {Dtype.FLOAT32: 0.99999, Dtype.BFLOAT16: 0.999}
# Graphs compiled for different depths; each holds all weights up to its depth.
_MAX_COMPILED = 2


def is_installed() -> bool:
    """Return whether OpenVINO is installed, without importing it."""
    return find_spec("openvino") is not None


def has_bfloat16() -> bool:
    """Return whether OpenVINO computes in bfloat16 on this CPU; otherwise it uses float32."""
    return _supports_bfloat16(import_openvino().Core())


LOST_THREADS = "OpenVINO cannot run in a process forked after it has run; fork earlier"


class _Threads:
    """Whether OpenVINO has started threads, and whether a fork has lost them.

    In the child OpenVINO believes them to be idle, and would wait for them even with a new model.
    """

    def __init__(self) -> None:
        self.are_started = False
        self.are_lost = False
        renew_after_fork(self, _Threads._note_fork)

    def _note_fork(self) -> None:
        self.are_lost |= self.are_started


_threads = _Threads()


def can_run() -> bool:
    """Return whether OpenVINO can run in this process; if not, `LOST_THREADS` says why."""
    return not _threads.are_lost


class OpenVinoEngine:
    """A cached graph of a transformers encoder on OpenVINO; implements `Engine`."""

    def __init__(
        self, graph: CachedGraph, dtype: Dtype, *, load_torch: Callable[[Dtype], Engine]
    ) -> None:
        """Wrap a graph; ``dtype`` is not AUTO. A CPU without bfloat16 computes in float32.

        ``load_torch`` loads the model on torch, for a process in which OpenVINO cannot run.
        """
        self._core = import_openvino().Core()
        self.spec: ModelSpec = graph.spec
        self.dtype = dtype if _supports_bfloat16(self._core) else Dtype.FLOAT32
        self.token_budget = _TOKEN_BUDGETS[self.dtype]
        self._graph = graph
        self._load_torch = load_torch
        self._torch: Engine | None = None
        self._model: Any = None
        self._n_cores = len(os.sched_getaffinity(0))
        self._n_requests = self._n_cores * _REQUESTS_PER_CORE
        self._requests: dict[int, list[Any]] = {}  # by depth, least recently used first
        renew_after_fork(self, OpenVinoEngine._renew)

    def _renew(self) -> None:
        """Forget what was compiled, whose threads are not in this process; see `abandon`."""
        abandon(self._core, self._model, self._requests)
        self._requests = {}

    @classmethod
    def load(
        cls, folder: ModelFolder, target: Path, *, pooling: Pooling, dtype: Dtype
    ) -> OpenVinoEngine | None:
        """Load a model's graph from ``target``; if there is none, convert it into that folder.

        A new graph is compared with torch. None if OpenVINO cannot convert the model or its vectors
        differ from torch's. Raises `ModelError`, or OSError if the folder cannot be written.
        """
        graph = find_graph(target)
        if graph is None:
            from layerdex.indexer.engines.openvino.graph import convert

            convert(folder, pooling, target)
            graph = find_graph(target)
        if graph is None or not graph.is_converted:
            return None
        load_torch = partial(_load_torch, folder, pooling)
        engines = (cls(graph, one, load_torch=load_torch) for one in _dtypes_to_try(dtype))
        return next((engine for engine in engines if engine.is_accurate()), None)

    def is_accurate(self) -> bool:
        """Return whether the vectors equal torch's, measured once per CPU and dtype."""
        key = f"{self.dtype} on {self._core.get_property('CPU', 'FULL_DEVICE_NAME')}"
        cosine = self._graph.agreement(key)
        if cosine is None:
            cosine = self.measure_agreement()
            self._graph.record_agreement(key, cosine)
        return cosine >= _TOLERANCES[self.dtype]

    def measure_agreement(self) -> float:
        """Return the lowest cosine to the reference vectors, over texts and layers.

        -1 for a graph that was converted, but fails on texts of some length.
        """
        layers = tuple(range(self.spec.depth + 1))
        reference, batches = self._graph.reference()
        lowest = 1.0
        try:
            for indices, pooled in self.pool(batches, layers):
                for layer, vectors in zip(layers, pooled, strict=True):
                    cosines = np.einsum("ij,ij->i", vectors, reference[layer, indices])
                    lowest = min(lowest, float(np.nan_to_num(cosines, nan=-1.0).min()))
        except ModelError as error:
            logger.info("the converted graph fails: %s", error)
            return -1.0
        return lowest

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Generator[Pooled]:
        """Yield the batches' vectors in order, with one running and one waiting per core.

        In a process that was forked after OpenVINO ran, torch computes them, within the tolerance.
        """
        if _threads.are_lost:
            yield from self._torch_engine().pool(batches, layers)
            return
        batches = iter(batches)
        first = list(islice(batches, 2))
        with _translate_errors():
            idle = deque(self._requests_to(layers[-1], self._n_requests if len(first) > 1 else 1))
        running: deque[tuple[Batch, Any]] = deque()
        try:
            for batch in chain(first, batches):
                if not idle:
                    batch_done, request = running.popleft()
                    yield batch_done.indices, _finish(request, layers)
                    idle.append(request)
                request = idle.popleft()
                running.append((batch, request))
                with _translate_errors():
                    request.start_async(_inputs(batch), share_inputs=True)
            while running:
                batch_done, request = running.popleft()
                yield batch_done.indices, _finish(request, layers)
        finally:
            for _, request in running:  # do not leave them running after an interruption
                with suppress(RuntimeError):  # one error is enough
                    request.wait()

    def _torch_engine(self) -> Engine:
        if self._torch is None:
            logger.warning("torch runs the model: %s", LOST_THREADS)
            self._torch = self._load_torch(self.dtype)
        return self._torch

    def _requests_to(self, depth: int, n_requests: int) -> list[Any]:
        """Return at least ``n_requests`` requests for the graph up to layer ``depth``."""
        requests = self._requests.pop(depth, [])
        if len(requests) < n_requests:
            compiled = self._compile(depth, min(n_requests, self._n_cores))
            requests = [compiled.create_infer_request() for _ in range(n_requests)]
            while len(self._requests) >= _MAX_COMPILED:
                self._requests.pop(next(iter(self._requests)))
        self._requests[depth] = requests
        return requests

    def _compile(self, depth: int, n_streams: int) -> Any:
        _threads.are_started = True
        if self._model is None:
            self._model = self._core.read_model(self._graph.path)
        # Blocks above the depth are not in the new model, as no output needs them.
        outputs = [self._model.output(layer) for layer in range(depth + 1)]
        graph = import_openvino().Model(outputs, self._model.get_parameters(), f"to {depth}")
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            # One thread per stream, so that the bytes do not depend on the number of cores.
            "NUM_STREAMS": str(n_streams),
            "INFERENCE_NUM_THREADS": n_streams,
            "INFERENCE_PRECISION_HINT": _HINTS[self.dtype],
        }
        if os.access(self._graph.folder, os.W_OK):
            # OpenVINO checks whether its cached files fit this CPU and version.
            config["CACHE_DIR"] = str(self._graph.folder / "compiled")
        return self._core.compile_model(graph, "CPU", config)


def _load_torch(folder: ModelFolder, pooling: Pooling, dtype: Dtype) -> Engine:
    from layerdex.indexer.engines.torch.engine import TorchEngine

    runtime = RuntimeOptions(engine=EngineName.TORCH, device="cpu", dtype=dtype)
    return TorchEngine(folder, pooling=pooling, runtime=runtime)


def _supports_bfloat16(core: Any) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _dtypes_to_try(wanted: Dtype) -> list[Dtype]:
    """Return the dtypes to try, fastest first."""
    if wanted is not Dtype.AUTO:
        return [wanted]
    return [*([Dtype.BFLOAT16] if cpu_has_bfloat16() else []), Dtype.FLOAT32]


def _inputs(batch: Batch) -> dict[str, Any]:
    inputs = {"input_ids": batch.ids, "attention_mask": batch.mask}
    if batch.mask_positions is not None:
        inputs["mask_positions"] = batch.mask_positions
    return inputs


def _finish(request: Any, layers: tuple[int, ...]) -> list[Vectors]:
    with _translate_errors():
        request.wait()
        tensors = request.output_tensors
    return [np.array(tensors[layer].data) for layer in layers]


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what OpenVINO's C++ throws
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"OpenVINO failed ({reason}): use --engine torch") from error
