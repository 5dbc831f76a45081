"""What this machine's matrix products reach, in operations a second: the encoder's roof."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from layerdex.indexer.devices import cpu_has_bfloat16
from layerdex.indexer.openvino_cache import import_openvino

SIZES = (256, 512, 1024, 2048, 4096, 8192)
WIDTH, INNER = 384, 1536
_SECONDS_EACH = 0.3


def measure_ceilings() -> dict[str, float]:
    """Return GFLOP/s by precision: the best of torch and OpenVINO over m × 384 × 1536."""
    ceilings = {"float32": max(_torch(torch.float32), _openvino("f32"))}
    if cpu_has_bfloat16():
        ceilings["bfloat16"] = max(_torch(torch.bfloat16), _openvino("bf16"))
    return ceilings


def _torch(dtype: torch.dtype) -> float:
    layer = torch.nn.Linear(WIDTH, INNER, dtype=dtype)
    with torch.inference_mode():
        inputs = {m: torch.randn(m, WIDTH, dtype=dtype) for m in SIZES}
        return max(_gflops(partial(layer, x), m) for m, x in inputs.items())


def _openvino(hint: str) -> float:
    ov = import_openvino()
    opset = ov.opset13
    parameter = opset.parameter([-1, WIDTH], np.float32)
    weights = opset.constant(np.random.default_rng(0).standard_normal((WIDTH, INNER), np.float32))
    product = opset.matmul(parameter, weights, False, False)
    # A sum, so that the result's copy is not what is measured.
    model = ov.Model([opset.reduce_sum(product, 1)], [parameter])
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    request = compiled.create_infer_request()
    inputs = {m: np.ones((m, WIDTH), np.float32) for m in SIZES}
    return max(_gflops(partial(request.infer, [x]), m) for m, x in inputs.items())


def _gflops(run: Callable[[], object], m: int) -> float:
    run()
    n_runs, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < _SECONDS_EACH:
        run()
        n_runs += 1
    return 2 * m * WIDTH * INNER * n_runs / seconds / 1e9
