"""Which engine runs a model: OpenVINO on a CPU where possible, else torch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.choices import Dtype, EngineName, Pooling
from layerdex.errors import MissingPackageError, OptionError, StorageError
from layerdex.indexer.engines.devices import choose_devices, may_have_gpu
from layerdex.indexer.engines.protocol import Engine
from layerdex.indexer.quantization.calibration import Calibration
from layerdex.limits import OPENVINO, TORCH, check_limits
from layerdex.options import RuntimeOptions

if TYPE_CHECKING:
    from layerdex.indexer.models.model_folder import ModelFolder

logger = logging.getLogger(__name__)


def load_engine(
    folder: ModelFolder,
    *,
    pooling: Pooling | None,
    runtime: RuntimeOptions,
    calibration: Calibration | None = None,
) -> Engine:
    """Load a model on the engine that ``runtime`` names; without ``pooling``, one for spans.

    `EngineName.AUTO` is OpenVINO on a CPU if it is installed, agrees with torch, supports the dtype
    and its cache of converted models is writable; torch otherwise. With a ``calibration`` it is
    OpenVINO in int8. Raises `ModelError`, `OptionError`, `StorageError`, `MissingPackageError` or
    `ResourceError`.
    """
    if calibration is not None:
        _check_int8(runtime)
        if pooling is None:
            raise OptionError("a model in int8 encodes whole texts only, not their spans")
    if (
        calibration is not None
        or runtime.engine is EngineName.OPENVINO
        or _may_use_openvino(runtime)
    ):
        engine = _load_openvino(folder, pooling=pooling, runtime=runtime, calibration=calibration)
        if engine is not None:
            return engine
    check_limits(TORCH, weights_bytes=folder.weights_bytes)
    from layerdex.indexer.engines.torch.engine import TorchEngine

    return TorchEngine(folder, pooling=pooling, runtime=runtime)


def _check_int8(runtime: RuntimeOptions) -> None:
    """Raise `OptionError` for where a model in int8 cannot run: such a thing is not replaced."""
    for option, value, possible, where in (
        ("--engine", runtime.engine, ("auto", "openvino"), "on the openvino engine"),
        ("--device", runtime.device, ("auto", "cpu"), "on the CPU"),
    ):
        if value not in possible:
            raise OptionError(
                f"a model in int8 runs only {where}: leave out {option} {value}, or make an index "
                "without --dtype int8"
            )


def _may_use_openvino(runtime: RuntimeOptions) -> bool:
    if runtime.engine is not EngineName.AUTO:
        return False
    if runtime.device == "auto" and may_have_gpu():
        return choose_devices(runtime.device)[0].type == "cpu"
    return runtime.device in ("auto", "cpu")


def _load_openvino(
    folder: ModelFolder,
    *,
    pooling: Pooling | None,
    runtime: RuntimeOptions,
    calibration: Calibration | None,
) -> Engine | None:
    """Load the OpenVINO engine; None where it cannot run and was not asked for by name."""
    from layerdex.indexer.engines.openvino.cache import graph_folder
    from layerdex.indexer.engines.openvino.engine import (
        OpenVinoEngine,
        is_installed,
    )

    is_required = calibration is not None or runtime.engine is EngineName.OPENVINO
    if is_required and runtime.device not in ("auto", "cpu"):
        raise OptionError(f"the openvino engine runs on the CPU, not on {runtime.device!r}")
    if not is_installed():
        if is_required:
            raise MissingPackageError("OpenVINO is not installed: pip install 'layerdex[openvino]'")
        return None
    check_limits(OPENVINO, weights_bytes=folder.weights_bytes)  # before a look for an obstacle
    if (obstacle := _find_obstacle(runtime)) is not None:
        reason, hint = obstacle
        if calibration is not None:
            raise OptionError(f"a model in int8 runs only on the openvino engine: {reason}")
        if is_required:
            raise OptionError(f"{reason}: {hint}")
        logger.warning("OpenVINO is not used: %s", reason)
        return None
    load: Callable[[Path], Engine | None] = (
        partial(OpenVinoEngine.load, folder, pooling=pooling, dtype=runtime.dtype)
        if calibration is None or pooling is None
        else partial(
            OpenVinoEngine.load_quantized, folder, pooling=pooling, calibration=calibration
        )
    )
    try:
        engine = load(graph_folder(folder, pooling))
    except OSError as error:
        if not is_required:
            logger.warning(
                "OpenVINO is not used: its cache cannot be used: %s", error.strerror or error
            )
            return None
        engine = _load_uncached(load, error)
    if engine is None and is_required:
        raise OptionError(_describe_failure(folder.name, runtime))
    return engine


def _describe_failure(name: str, runtime: RuntimeOptions) -> str:
    if runtime.dtype is Dtype.INT8:
        return (
            f"the model {name!r} cannot run in int8 here: OpenVINO cannot convert it, or its "
            "vectors on this CPU differ from torch's, or from those where it was quantised; make "
            "an index without --dtype int8"
        )
    return (
        f"OpenVINO's vectors of the model {name!r} in {runtime.dtype} differ from torch's: use "
        "--engine torch"
    )


def _find_obstacle(runtime: RuntimeOptions) -> tuple[str, str] | None:
    """Return why OpenVINO cannot run here and what to do, if there is a reason."""
    from layerdex.indexer.engines.openvino.engine import has_bfloat16
    from layerdex.indexer.engines.openvino.requests import LOST_THREADS, can_run

    if not can_run():
        return LOST_THREADS, "or use --engine torch"
    if runtime.dtype is Dtype.BFLOAT16 and not has_bfloat16():
        return (
            "OpenVINO does not compute in bfloat16 on this CPU",
            "use --dtype float32, or --engine torch, which is slow in bfloat16",
        )
    return None


def _load_uncached(load: Callable[[Path], Engine | None], reason: OSError) -> Engine | None:
    """Convert the model for this process only, as its cache cannot be written."""
    from layerdex.indexer.engines.openvino.cache import temporary_graph_folder

    why = reason.strerror or reason
    logger.warning("the model is converted for this process only: no cache can be used: %s", why)
    try:
        return load(temporary_graph_folder())
    except OSError as error:
        raise StorageError(
            f"cannot write the converted model: {error.strerror or error}"
        ) from error
