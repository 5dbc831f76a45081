"""The OpenVINO engine: faster than torch on a CPU, and needs no torch once a model is cached.

Each core runs small batches of its own on one thread, so that the activations fit in its cache;
this measured faster than one batch on all cores. A single batch, such as a query, gets a graph
compiled for one core, as compiling for all takes longer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any

from layerdex.choices import Dtype, EngineName, Pooling
from layerdex.cpu import cpu_has_bfloat16
from layerdex.errors import LayerdexError, ModelError
from layerdex.indexer.engines.openvino.cache import (
    find_graph,
    quantized_folder,
    replaced_graph,
)
from layerdex.indexer.engines.openvino.cached_graph import CachedGraph
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.openvino.requests import (
    LOST_THREADS,
    Requests,
    can_run,
    describe_dtype,
    lowest_cosine,
    run,
)
from layerdex.indexer.engines.protocol import Batch, Engine, ModelSpec, Pooled
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.indexer.quantization.calibration import Calibration
from layerdex.limits import CONVERSION, TORCH, check_limits
from layerdex.options import RuntimeOptions

logger = logging.getLogger(__name__)

# Tokens per batch, for one core. In float32 (Zen 3) 256 to 512 are equally fast; in bfloat16 (Zen
# 5) activations are half as large, and 1,024 are a tenth faster than 512.
_TOKEN_BUDGETS = {Dtype.FLOAT32: 512, Dtype.BFLOAT16: 1_024, Dtype.INT8: 1_024}
# One runs and one waits, so that no core is idle while a result is fetched.
_REQUESTS_PER_CORE = 2
# Lowest allowed cosine to torch in float32, over all layers of the probe texts; in int8 to the
# vectors where the model was quantised, which another CPU rounds otherwise.
_TOLERANCES = {Dtype.FLOAT32: 0.99999, Dtype.BFLOAT16: 0.999, Dtype.INT8: 0.99}


def is_installed() -> bool:
    """Return whether OpenVINO is installed, without importing it."""
    return find_spec("openvino") is not None


def has_bfloat16() -> bool:
    """Return whether OpenVINO computes in bfloat16 on this CPU; otherwise it uses float32."""
    return _supports_bfloat16(import_openvino().Core())


class OpenVinoEngine:
    """A cached graph of a transformers encoder on OpenVINO; implements `Engine`."""

    def __init__(
        self,
        graph: CachedGraph,
        dtype: Dtype,
        folder: ModelFolder,
        *,
        pooling: Pooling | None,
        make: Callable[[Path], object] | None = None,
    ) -> None:
        """Wrap the graph of the model in ``folder``.

        ``dtype`` is not AUTO. A CPU without bfloat16 computes in float32 instead. ``make`` makes
        the graph again in a new folder; by default, by converting the model.
        """
        core = import_openvino().Core()
        self.spec: ModelSpec = graph.spec
        self.quantization = graph.quantization
        is_bfloat16 = dtype is Dtype.BFLOAT16
        self.dtype = Dtype.FLOAT32 if is_bfloat16 and not _supports_bfloat16(core) else dtype
        self.token_budget = _TOKEN_BUDGETS[self.dtype]
        # What the agreement and a compiled graph depend on.
        self._kind = (
            f"{describe_dtype(self.dtype)} on {core.get_property('CPU', 'FULL_DEVICE_NAME')}"
        )
        self._folder = folder
        self._pooling = pooling
        self._make = make or partial(_convert, folder, pooling)
        self._torch: Engine | None = None
        n_cores = len(os.sched_getaffinity(0))
        self._n_requests = n_cores * _REQUESTS_PER_CORE
        self._requests = Requests(core, graph, self.dtype, kind=self._kind, n_cores=n_cores)

    @classmethod
    def load(
        cls, folder: ModelFolder, target: Path, *, pooling: Pooling | None, dtype: Dtype
    ) -> OpenVinoEngine | None:
        """Load a model's graph from ``target``; if there is none, convert it into that folder.

        A new graph is compared with torch. None if OpenVINO cannot convert the model or its vectors
        differ from torch's. Raises `ModelError`, or OSError if the folder cannot be written.
        """
        graph = find_graph(target) or _convert(folder, pooling, target)
        if graph is None or not graph.is_converted:
            return None
        engines = (cls(graph, one, folder, pooling=pooling) for one in _dtypes_to_try(dtype))
        return next((engine for engine in engines if engine.is_accurate()), None)

    @classmethod
    def load_quantized(
        cls, folder: ModelFolder, target: Path, *, pooling: Pooling, calibration: Calibration
    ) -> OpenVinoEngine | None:
        """Load a model's graph in int8; if there is none, quantise the exact one of ``target``.

        None if there is no exact one (see `load`), or if this CPU's vectors are not those of the
        graph. Raises as `load` and `quantize` do.
        """
        make = partial(_quantize, folder, pooling, target, calibration)
        quantized = quantized_folder(target, calibration)
        graph = find_graph(quantized) or make(quantized)
        if graph is None:
            return None
        engine = cls(graph, Dtype.INT8, folder, pooling=pooling, make=make)
        return engine if engine.is_accurate() else None

    def is_accurate(self) -> bool:
        """Return whether the vectors equal the reference's, measured once per CPU and dtype."""
        cosine = self._requests.graph.agreement(self._kind)
        if cosine is None:
            cosine = self.measure_agreement()
            self._requests.graph.record_agreement(self._kind, cosine)
        return cosine >= _TOLERANCES[self.dtype]

    def measure_agreement(self) -> float:
        """Return the lowest cosine to the reference vectors, over texts and layers.

        -1 for a graph that was converted, but fails on texts of some length.
        """
        layers = tuple(range(self.spec.depth + 1))
        reference, batches = self._requests.graph.reference()
        try:
            requests = self._requests.to(layers[-1], self._n_requests)
            cosines = [
                lowest_cosine(pooled, reference[:, indices])
                for indices, pooled in run(requests, batches, layers)
            ]
        except ModelError as error:
            logger.info("the converted graph fails: %s", error)
            return -1.0
        return min(cosines)

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Generator[Pooled]:
        """Yield the batches' vectors in order, with one running and one waiting per core.

        torch computes them, within the tolerance, in a process that was forked after OpenVINO ran,
        and where OpenVINO's vectors of a probe text are wrong even after a new conversion. In int8
        torch cannot, and this is a `ModelError`.
        """
        batches = iter(batches)
        first = list(islice(batches, 2))
        batches = chain(first, batches)
        n_requests = self._n_requests if len(first) > 1 else 1
        requests = self._sound_requests_to(layers[-1], n_requests)
        if requests is None:
            yield from self._torch_engine().pool(batches, layers)
        else:
            yield from run(requests, batches, layers)

    def _torch_engine(self) -> Engine:
        if self._torch is None:
            why = "OpenVINO's vectors are wrong" if can_run() else LOST_THREADS
            if self.dtype is Dtype.INT8:
                raise ModelError(f"{why}, and torch cannot run a model in int8 in its place")
            logger.warning("torch runs the model: %s", why)
            self._torch = _load_torch(self._folder, self._pooling, self.dtype)
        return self._torch

    def _sound_requests_to(self, depth: int, n_requests: int) -> list[Any] | None:
        """Return requests as `Requests.to` does, whose graph gives torch's vectors of a probe text.

        What is newly compiled is tried first. If it is wrong it is made again: what was compiled,
        then the graph. None if that does not help. Raises `ModelError` where OpenVINO fails.
        """
        if not can_run() or self._torch is not None:
            return None
        if self._requests.count(depth) >= n_requests:
            return self._requests.to(depth, n_requests)
        for remedy in (None, self._compile_again, self._convert_again):
            if remedy is not None:
                logger.warning(
                    "OpenVINO's vectors of a probe text are wrong for the model %r: making its "
                    "graph again",
                    self._folder.name,
                )
                try:
                    remedy()
                except (LayerdexError, OSError) as error:
                    logger.warning("its graph cannot be made again: %s", error)
                    break
            if (requests := self._probed_requests_to(depth, n_requests)) is not None:
                return requests
        return None

    def _probed_requests_to(self, depth: int, n_requests: int) -> list[Any] | None:
        """Return requests like `Requests.to`, or None if they are wrong; then none are kept."""
        is_sound = False
        try:
            requests = self._requests.to(depth, n_requests)
            is_sound = self._is_sound(requests[0], depth)
        finally:
            if not is_sound:
                self._requests.clear()
        return requests if is_sound else None

    def _compile_again(self) -> None:
        self._requests.clear()
        self._requests.graph.forget_compilations()

    def _convert_again(self) -> None:
        target = self._requests.graph.folder
        with replaced_graph(target) as aside:
            self._make(aside)
        graph = find_graph(target)
        if graph is None or not graph.is_converted:
            raise ModelError("it cannot be converted")
        self._requests.use(graph)

    def _is_sound(self, request: Any, depth: int) -> bool:
        layers = tuple(range(depth + 1))
        batch, expected = self._requests.graph.probe()
        ((_, pooled),) = run([request], [batch], layers)
        return lowest_cosine(pooled, expected[: depth + 1]) >= _TOLERANCES[self.dtype]


def _convert(folder: ModelFolder, pooling: Pooling | None, target: Path) -> CachedGraph | None:
    check_limits(CONVERSION, weights_bytes=folder.weights_bytes)
    from layerdex.indexer.engines.openvino.graph import convert

    convert(folder, pooling, target)
    return find_graph(target)


def _quantize(
    folder: ModelFolder,
    pooling: Pooling,
    exact: Path,
    calibration: Calibration,
    target: Path,
) -> CachedGraph | None:
    """Quantise the graph in the folder ``exact`` into ``target``; None if there is none."""
    engine = OpenVinoEngine.load(folder, exact, pooling=pooling, dtype=Dtype.FLOAT32)
    if engine is None:
        return None
    check_limits(CONVERSION, weights_bytes=folder.weights_bytes)
    from layerdex.indexer.engines.openvino.quantized_graph import quantize

    quantize(engine, engine._requests.graph, calibration, pooling=pooling, target=target)
    return find_graph(target)


def _load_torch(folder: ModelFolder, pooling: Pooling | None, dtype: Dtype) -> Engine:
    check_limits(TORCH, weights_bytes=folder.weights_bytes)
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
