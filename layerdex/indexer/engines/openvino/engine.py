"""The OpenVINO engine: faster than torch on a CPU, and without torch once a model is cached.

One batch a core, each on one thread and small: activations then stay in the core's own cache,
which measured faster than one batch on all cores. A single batch, such as a
question, has one request made for it: the others would only take time to compile.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain, islice
from typing import Any

import numpy as np

from layerdex.choices import Dtype, Pooling
from layerdex.errors import ModelError
from layerdex.indexer.engines.devices import cpu_has_bfloat16
from layerdex.indexer.engines.openvino.cache import (
    CachedGraph,
    find_graph,
    graph_folder,
    import_openvino,
)
from layerdex.indexer.engines.protocol import Batch, ModelSpec, Pooled
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.records import Vectors

# Tokens a batch, for one core. In float32 (Zen 3) 256 to 512 differ by less than the noise; in
# bfloat16 (Zen 5) a batch's activations are half as large, and 1,024 are a tenth faster than 512.
_TOKEN_BUDGETS = {Dtype.FLOAT32: 512, Dtype.BFLOAT16: 1_024}
# One at work and one waiting, so that no core stands idle until its result is fetched.
_REQUESTS_A_CORE = 2
_HINTS = {Dtype.FLOAT32: "f32", Dtype.BFLOAT16: "bf16"}
# Worst cosine to torch in float32, over every layer of the probe texts.
_TOLERANCES = {Dtype.FLOAT32: 0.99999, Dtype.BFLOAT16: 0.999}
# Depths compiled at once: each holds the weights up to there, so two, for two layers in turn.
_MAX_COMPILED = 2


def is_installed() -> bool:
    """Say whether OpenVINO is there, without importing it."""
    return find_spec("openvino") is not None


def has_bfloat16() -> bool:
    """Say whether OpenVINO computes in bfloat16 on this CPU; elsewhere it would take float32."""
    return _lists_bfloat16(import_openvino().Core())


class OpenVinoEngine:
    """A cached graph of a transformers encoder on OpenVINO, behind the `Engine` protocol."""

    def __init__(self, graph: CachedGraph, dtype: Dtype) -> None:
        """Wrap a graph; ``dtype`` is not AUTO. A CPU without bfloat16 computes in float32."""
        self._core = import_openvino().Core()
        self.spec: ModelSpec = graph.spec
        self.dtype = dtype if _lists_bfloat16(self._core) else Dtype.FLOAT32
        self.token_budget = _TOKEN_BUDGETS[self.dtype]
        self._graph = graph
        self._model: Any = None
        self._n_cores = len(os.sched_getaffinity(0))
        self._n_requests = self._n_cores * _REQUESTS_A_CORE
        self._requests: dict[int, list[Any]] = {}  # by depth, the least recently used first

    @classmethod
    def load(cls, folder: ModelFolder, *, pooling: Pooling, dtype: Dtype) -> OpenVinoEngine | None:
        """Load a model from the cache, converted and checked against torch on its first use.

        None where OpenVINO cannot convert the model or its vectors are not torch's. Raises
        `ModelError`, or OSError where the cache cannot be written.
        """
        target = graph_folder(folder, pooling)
        graph = find_graph(target)
        if graph is None:
            from layerdex.indexer.engines.openvino.graph import convert

            convert(folder, pooling, target)
            graph = find_graph(target)
        if graph is None or not graph.is_converted:
            return None
        engines = (cls(graph, candidate) for candidate in _dtypes_to_try(dtype))
        return next((engine for engine in engines if engine.agrees()), None)

    def agrees(self) -> bool:
        """Say whether the vectors are torch's, measured once for a CPU and dtype."""
        key = f"{self.dtype} on {self._core.get_property('CPU', 'FULL_DEVICE_NAME')}"
        cosine = self._graph.agreement(key)
        if cosine is None:
            cosine = self.measure_agreement()
            self._graph.record_agreement(key, cosine)
        return cosine >= _TOLERANCES[self.dtype]

    def measure_agreement(self) -> float:
        """Return the worst cosine to the reference vectors, over texts and layers."""
        layers = tuple(range(self.spec.depth + 1))
        reference, batches = self._graph.reference()
        worst = 1.0
        for places, pooled in self.pool(batches, layers):
            for layer, vectors in zip(layers, pooled, strict=True):
                cosines = np.einsum("ij,ij->i", vectors, reference[layer, places])
                worst = min(worst, float(np.nan_to_num(cosines, nan=-1.0).min()))
        return worst

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Generator[Pooled]:
        """Yield the batches' vectors in order, with one at work and one waiting for each core."""
        batches = iter(batches)
        first = list(islice(batches, 2))
        with _clear_errors():
            idle = deque(self._requests_to(layers[-1], self._n_requests if len(first) > 1 else 1))
        at_work: deque[tuple[Batch, Any]] = deque()
        try:
            for batch in chain(first, batches):
                if not idle:
                    done, request = at_work.popleft()
                    yield done.places, _finish(request, layers)
                    idle.append(request)
                request = idle.popleft()
                at_work.append((batch, request))
                with _clear_errors():
                    request.start_async(_inputs(batch), share_inputs=True)
            while at_work:
                done, request = at_work.popleft()
                yield done.places, _finish(request, layers)
        finally:
            for _, request in at_work:  # an interruption must not leave them running
                request.wait()

    def _requests_to(self, depth: int, n_requests: int) -> list[Any]:
        """Return at least so many requests for the graph cut after layer ``depth``."""
        requests = self._requests.pop(depth, [])
        if len(requests) < n_requests:
            compiled = self._compile(depth, min(n_requests, self._n_cores))
            requests = [compiled.create_infer_request() for _ in range(n_requests)]
            while len(self._requests) >= _MAX_COMPILED:
                self._requests.pop(next(iter(self._requests)))
        self._requests[depth] = requests
        return requests

    def _compile(self, depth: int, n_streams: int) -> Any:
        if self._model is None:
            self._model = self._core.read_model(self._graph.path)
        # What no result needs is not part of the model: blocks above the depth never run.
        outputs = [self._model.output(layer) for layer in range(depth + 1)]
        part = import_openvino().Model(outputs, self._model.get_parameters(), f"to {depth}")
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            # A thread each, however many there are: so a batch's bytes do not depend on that.
            "NUM_STREAMS": str(n_streams),
            "INFERENCE_NUM_THREADS": n_streams,
            "INFERENCE_PRECISION_HINT": _HINTS[self.dtype],
        }
        if os.access(self._graph.folder, os.W_OK):
            # OpenVINO itself finds out whether what it kept here fits this CPU and version.
            config["CACHE_DIR"] = str(self._graph.folder / "compiled")
        return self._core.compile_model(part, "CPU", config)


def _lists_bfloat16(core: Any) -> bool:
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
    with _clear_errors():
        request.wait()
        tensors = request.output_tensors
    return [np.array(tensors[layer].data) for layer in layers]


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what OpenVINO's C++ throws
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"OpenVINO failed ({reason}): use --engine torch") from error
