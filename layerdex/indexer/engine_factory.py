"""Which engine runs a model: OpenVINO on a CPU where possible, else torch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from layerdex.choices import Dtype, EngineName, Pooling
from layerdex.errors import MissingPackageError, OptionError, StorageError
from layerdex.indexer.engines.devices import choose_devices, may_have_gpu
from layerdex.indexer.engines.protocol import Engine
from layerdex.options import RuntimeOptions

if TYPE_CHECKING:
    from layerdex.indexer.models.model_folder import ModelFolder

logger = logging.getLogger(__name__)


def load_engine(folder: ModelFolder, *, pooling: Pooling, runtime: RuntimeOptions) -> Engine:
    """Load a model on the engine that ``runtime`` names.

    `EngineName.AUTO` is OpenVINO on a CPU if it is installed, agrees with torch, supports the dtype
    and its cache of converted models is writable; torch otherwise. Raises `ModelError`,
    `OptionError`, `StorageError` or `MissingPackageError`.
    """
    if runtime.engine is EngineName.OPENVINO or _may_use_openvino(runtime):
        engine = _load_openvino(folder, pooling=pooling, runtime=runtime)
        if engine is not None:
            return engine
    from layerdex.indexer.engines.torch.engine import TorchEngine

    return TorchEngine(folder, pooling=pooling, runtime=runtime)


def _may_use_openvino(runtime: RuntimeOptions) -> bool:
    if runtime.engine is not EngineName.AUTO:
        return False
    if runtime.device == "auto" and may_have_gpu():
        return choose_devices(runtime.device)[0].type == "cpu"
    return runtime.device in ("auto", "cpu")


def _load_openvino(
    folder: ModelFolder, *, pooling: Pooling, runtime: RuntimeOptions
) -> Engine | None:
    """Load the OpenVINO engine; None where it cannot run and was not asked for by name."""
    from layerdex.indexer.engines.openvino.engine import OpenVinoEngine, has_bfloat16, is_installed

    is_required = runtime.engine is EngineName.OPENVINO
    if is_required and runtime.device not in ("auto", "cpu"):
        raise OptionError(f"the openvino engine runs on the CPU, not on {runtime.device!r}")
    if not is_installed():
        if is_required:
            raise MissingPackageError("OpenVINO is not installed: pip install 'layerdex[openvino]'")
        return None
    if runtime.dtype is Dtype.BFLOAT16 and not has_bfloat16():
        if is_required:
            raise OptionError(
                "OpenVINO does not compute in bfloat16 on this CPU: use --dtype float32, or "
                "--engine torch, which is slow in bfloat16"
            )
        logger.warning("OpenVINO is not used: it does not compute in bfloat16 on this CPU")
        return None
    try:
        engine = OpenVinoEngine.load(folder, pooling=pooling, dtype=runtime.dtype)
    except OSError as error:
        if is_required:
            raise StorageError(f"cannot write the converted model: {error}") from error
        logger.warning("OpenVINO is not used: its cache cannot be written: %s", error)
        return None
    if engine is None and is_required:
        raise OptionError(
            f"OpenVINO's vectors of the model {folder.name!r} in {runtime.dtype} differ from "
            "torch's: use --engine torch"
        )
    return engine
