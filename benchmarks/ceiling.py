"""The matrix ceiling: the operations per second that this machine's matrix products reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from layerdex.cpu import cpu_has_bfloat16
from layerdex.indexer.engines.openvino.library import import_openvino

SIZES = (256, 512, 1024, 2048, 4096, 8192)
WIDTH, INNER = 384, 1536
_SECONDS_EACH = 0.3


Measure = Callable[[], float]


def ceilings() -> dict[str, Measure]:
    """Return, by precision, a function that measures GFLOP/s of the best m × 384 × 1536 product.

    The best of torch and OpenVINO and of all m is chosen here, once. The function can be called
    repeatedly, because the speed of a shared machine changes from minute to minute.
    """
    products = {"float32": [*_torch(torch.float32), *_openvino("f32")]}
    if cpu_has_bfloat16():
        products["bfloat16"] = [*_torch(torch.bfloat16), *_openvino("bf16")]
    return {
        name: max(measures, key=lambda measure: measure()) for name, measures in products.items()
    }


def _torch(dtype: torch.dtype) -> Iterator[Measure]:
    layer = torch.nn.Linear(WIDTH, INNER, dtype=dtype)

    def product(x: torch.Tensor) -> None:
        with torch.inference_mode():
            layer(x)

    for m in SIZES:
        yield partial(_gflops, partial(product, torch.randn(m, WIDTH, dtype=dtype)), m)


def _openvino(hint: str) -> Iterator[Measure]:
    ov = import_openvino()
    opset = ov.opset13
    parameter = opset.parameter([-1, WIDTH], np.float32)
    weights = opset.constant(np.random.default_rng(0).standard_normal((WIDTH, INNER), np.float32))
    product = opset.matmul(parameter, weights, False, False)
    # Summed, so that copying the result is not measured.
    model = ov.Model([opset.reduce_sum(product, 1)], [parameter])
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    request = compiled.create_infer_request()
    for m in SIZES:
        yield partial(_gflops, partial(request.infer, [np.ones((m, WIDTH), np.float32)]), m)


def _gflops(run: Callable[[], object], m: int) -> float:
    run()
    n_runs, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < _SECONDS_EACH:
        run()
        n_runs += 1
    return 2 * m * WIDTH * INNER * n_runs / seconds / 1e9
