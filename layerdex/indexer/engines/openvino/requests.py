"""Inference requests of OpenVINO: compiling a cached graph, and running batches on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from layerdex.choices import Dtype
from layerdex.cpu import cpu_has_int8
from layerdex.errors import ModelError
from layerdex.forks import abandon, renew_after_fork
from layerdex.indexer.engines.openvino.cached_graph import CachedGraph
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.protocol import Batch, Pooled, is_span
from layerdex.records import Vectors

# What is not quantised is computed in bfloat16, and in float32 where the CPU has no bfloat16.
_HINTS = {Dtype.FLOAT32: "f32", Dtype.BFLOAT16: "bf16", Dtype.INT8: "bf16"}
# Graphs compiled for different depths; each holds all weights up to its depth.
_MAX_COMPILED = 2

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


class Requests:
    """The inference requests to a cached graph, compiled up to the layers that were asked for.

    ``kind`` names the dtype and the CPU, which decide what is compiled.
    """

    def __init__(
        self, core: Any, graph: CachedGraph, dtype: Dtype, *, kind: str, n_cores: int
    ) -> None:
        self.graph = graph
        self._core = core
        self._dtype = dtype
        self._kind = kind
        self._n_cores = n_cores
        self._model: Any = None
        self._requests: dict[int, list[Any]] = {}  # by depth, least recently used first
        renew_after_fork(self, Requests._renew)

    def _renew(self) -> None:
        """Forget what was compiled, whose threads are not in this process; see `abandon`."""
        abandon(self._core, self._model, self._requests)
        self.clear()

    def clear(self) -> None:
        """Forget what was compiled."""
        self._model = None
        self._requests = {}

    def use(self, graph: CachedGraph) -> None:
        """Go on with another graph of the same model."""
        self.clear()
        self.graph = graph

    def count(self, depth: int) -> int:
        """Return how many requests there are for the graph up to layer ``depth``."""
        return len(self._requests.get(depth, ()))

    def to(self, depth: int, n_requests: int) -> list[Any]:
        """Return at least ``n_requests`` requests for the graph up to layer ``depth``.

        Raises `ModelError`.
        """
        requests = self._requests.pop(depth, [])
        if len(requests) < n_requests:
            with translate_errors():
                compiled = self._compile(depth, min(n_requests, self._n_cores))
                requests = [compiled.create_infer_request() for _ in range(n_requests)]
            while len(self._requests) >= _MAX_COMPILED:
                self._requests.pop(next(iter(self._requests)))
        self._requests[depth] = requests
        return requests

    def _compile(self, depth: int, n_streams: int) -> Any:
        _threads.are_started = True
        if self._model is None:
            self._model = self._core.read_model(self.graph.path)
        # Blocks above the depth are not in the new model, as no output needs them.
        outputs = [self._model.output(layer) for layer in range(depth + 1)]
        graph = import_openvino().Model(outputs, self._model.get_parameters(), f"to {depth}")
        config = compile_options(self._dtype, n_streams=n_streams)
        with self.graph.compilation(f"to {depth}, {self._kind}") as folder:
            if folder is not None:
                # OpenVINO checks whether its cached files fit this CPU and version.
                config["CACHE_DIR"] = str(folder)
            return self._core.compile_model(graph, "CPU", config)


def compile_options(dtype: Dtype, *, n_streams: int) -> dict[str, Any]:
    """Return OpenVINO's options for a graph, which runs ``n_streams`` batches at once."""
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        # One thread per stream, so that the bytes do not depend on the number of cores.
        "NUM_STREAMS": str(n_streams),
        "INFERENCE_NUM_THREADS": n_streams,
        "INFERENCE_PRECISION_HINT": _HINTS[dtype],
    }
    if _is_imitated(dtype):
        options["LP_TRANSFORMS_MODE"] = False
    return options


def describe_dtype(dtype: Dtype) -> str:
    """Return what is computed in: the dtype, and whether it is imitated."""
    return f"{dtype} in float32" if _is_imitated(dtype) else str(dtype)


def _is_imitated(dtype: Dtype) -> bool:
    """Return whether whole numbers are multiplied in float32, for want of instructions for them.

    Those of older CPUs add two products in 16 bits, which are not enough: at its deepest layer
    MiniLM's mean cosine to float32 is then 0.9957, and 0.9979 without.
    """
    return dtype is Dtype.INT8 and not cpu_has_int8()


def run(
    requests: Sequence[Any], batches: Iterable[Batch], layers: tuple[int, ...]
) -> Generator[Pooled]:
    """Yield the batches' vectors in order; as many run or wait as there are requests."""
    idle = deque(requests)
    running: deque[tuple[Batch, Any]] = deque()
    try:
        for batch in batches:
            if not idle:
                batch_done, request = running.popleft()
                yield batch_done.indices, _finish(request, batch_done, layers)
                idle.append(request)
            request = idle.popleft()
            running.append((batch, request))
            with translate_errors():
                request.start_async(batch.inputs(), share_inputs=True)
        while running:
            batch_done, request = running.popleft()
            yield batch_done.indices, _finish(request, batch_done, layers)
    finally:
        for _, request in running:  # do not leave them running after an interruption
            with suppress(RuntimeError):  # one error is enough
                request.wait()


def lowest_cosine(pooled: Sequence[Vectors], expected: Vectors) -> float:
    """Return the lowest cosine of unit vectors by layer, (n_layers, n, width); -1 for NaN."""
    cosines = np.einsum("lnw,lnw->ln", np.stack(pooled), expected)
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def _finish(request: Any, batch: Batch, layers: tuple[int, ...]) -> list[Vectors]:
    with translate_errors():
        request.wait()
        tensors = request.output_tensors
    if batch.spans is None:
        return [np.array(tensors[layer].data) for layer in layers]
    kept = is_span(batch.spans)
    return [tensors[layer].data[kept] for layer in layers]


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise `ModelError` where OpenVINO fails."""
    try:
        yield
    except RuntimeError as error:  # what OpenVINO's C++ throws
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"OpenVINO failed ({reason}): use --engine torch") from error
