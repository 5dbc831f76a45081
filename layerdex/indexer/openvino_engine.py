"""The OpenVINO engine: faster than torch on a CPU, and without torch once a model is cached.

One infer request a core, each on one thread with small batches: activations then stay in the
core's own cache, which measured faster than one request on all cores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from layerdex.indexer.devices import Precision, cpu_has_bfloat16
from layerdex.indexer.engine import Batch, ModelFacts, Pooled
from layerdex.indexer.models import ModelFolder
from layerdex.indexer.openvino_cache import CachedGraph, find_graph, import_openvino
from layerdex.records import Pooling, Vectors

# Tokens a batch: 256 × 1,536 float32 are 1.5 MB, the largest activation of MiniLM. Measured on
# Zen 3 with float32: 256 gave 5,300 tokens/s, 512 gave 4,300, 128 gave 4,150.
_TOKEN_BUDGETS = {Precision.FLOAT32: 256, Precision.BFLOAT16: 512}
_HINTS = {Precision.FLOAT32: "f32", Precision.BFLOAT16: "bf16"}
# Worst cosine to torch in float32, over every layer of the probe texts.
_TOLERANCES = {Precision.FLOAT32: 0.99999, Precision.BFLOAT16: 0.999}


def is_installed() -> bool:
    """Say whether OpenVINO is there, without importing it."""
    return find_spec("openvino") is not None


class OpenVinoEngine:
    """A cached graph of a transformers encoder on OpenVINO, behind the `Engine` protocol."""

    def __init__(self, graph: CachedGraph, precision: Precision) -> None:
        self.facts: ModelFacts = graph.facts
        self.precision = precision
        self.token_budget = _TOKEN_BUDGETS[precision]
        self._graph = graph
        self._n_cores = len(os.sched_getaffinity(0))
        self._requests: dict[tuple[int, ...], list[Any]] = {}

    @classmethod
    def load(
        cls, folder: ModelFolder, *, pooling: Pooling, precision: Precision
    ) -> OpenVinoEngine | None:
        """Load a model from the cache, converted and checked against torch on its first use.

        None where OpenVINO cannot convert the model or its vectors are not torch's.
        """
        if precision is Precision.AUTO:
            precision = Precision.BFLOAT16 if cpu_has_bfloat16() else Precision.FLOAT32
        graph = find_graph(folder, pooling)
        if graph is None:
            return None
        engine = cls(graph, precision)
        if precision.value not in graph.cosines:
            graph.record(precision.value, engine.measure_agreement())
        return engine if graph.cosines[precision.value] >= _TOLERANCES[precision] else None

    def measure_agreement(self) -> float:
        """Return the worst cosine to the reference vectors, over texts and layers."""
        layers = tuple(range(self.facts.depth + 1))
        reference, batches = self._graph.reference()
        worst = 1.0
        for places, pooled in self.pool(batches, layers):
            for layer, vectors in zip(layers, pooled, strict=True):
                cosines = np.einsum("ij,ij->i", vectors, reference[layer, places])
                worst = min(worst, float(np.nan_to_num(cosines, nan=-1.0).min()))
        return worst

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Iterator[Pooled]:
        """Yield the batches' vectors in order, as many at work as there are cores."""
        idle = deque(self._requests_for(layers))
        at_work: deque[tuple[Batch, Any]] = deque()
        try:
            for batch in batches:
                if not idle:
                    done, request = at_work.popleft()
                    yield done.places, _finish(request)
                    idle.append(request)
                request = idle.popleft()
                request.start_async(_inputs(batch), share_inputs=True)
                at_work.append((batch, request))
            while at_work:
                done, request = at_work.popleft()
                yield done.places, _finish(request)
        finally:
            for _, request in at_work:  # an interruption must not leave them running
                request.wait()

    def _requests_for(self, layers: tuple[int, ...]) -> list[Any]:
        if layers not in self._requests:
            ov = import_openvino()
            hint = _HINTS[self.precision]
            config = {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": str(self._n_cores),
                "INFERENCE_NUM_THREADS": self._n_cores,
                "INFERENCE_PRECISION_HINT": hint,
            }
            compiled = self._graph.compile(ov, layers, config)
            self._requests[layers] = [compiled.create_infer_request() for _ in range(self._n_cores)]
        return self._requests[layers]


def _inputs(batch: Batch) -> dict[str, Any]:
    inputs = {"input_ids": batch.ids, "attention_mask": batch.mask}
    if batch.mask_positions is not None:
        inputs["mask_positions"] = batch.mask_positions
    return inputs


def _finish(request: Any) -> list[Vectors]:
    request.wait()
    return [np.array(tensor.data) for tensor in request.output_tensors]
