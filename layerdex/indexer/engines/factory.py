"""Which engine runs a model: OpenVINO where it can, else torch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from layerdex.choices import Dtype, EngineName, Pooling
from layerdex.errors import MissingPackageError, OptionError, StorageError
from layerdex.indexer.engines.devices import choose_devices, may_have_gpu
from layerdex.indexer.engines.protocol import Engine

if TYPE_CHECKING:
    from layerdex.indexer.models.model_folder import ModelFolder

logger = logging.getLogger(__name__)


def load_engine(
    folder: ModelFolder, *, name: EngineName, pooling: Pooling, device: str, precision: Dtype
) -> Engine:
    """Load a model on the engine of that name.

    `EngineName.AUTO` is OpenVINO on a CPU where it is installed, agrees with torch, has the
    precision and can keep the converted model, and torch otherwise. Raises `ModelError`,
    `OptionError`, `StorageError` or `MissingPackageError`.
    """
    if name is EngineName.OPENVINO or (name is EngineName.AUTO and _is_cpu(device)):
        found = _load_openvino(
            folder, name=name, pooling=pooling, device=device, precision=precision
        )
        if found is not None:
            return found
    from layerdex.indexer.engines.torch.engine import TorchEngine

    return TorchEngine(folder, pooling=pooling, device=device, precision=precision)


def _load_openvino(
    folder: ModelFolder, *, name: EngineName, pooling: Pooling, device: str, precision: Dtype
) -> Engine | None:
    """Load the OpenVINO engine; None where that was not asked for by name and cannot be."""
    from layerdex.indexer.engines.openvino.engine import OpenVinoEngine, has_bfloat16, is_installed

    is_asked_for = name is EngineName.OPENVINO
    if is_asked_for and device not in ("auto", "cpu"):
        raise OptionError(f"the openvino engine runs on the CPU, not on {device!r}")
    if not is_installed():
        if is_asked_for:
            raise MissingPackageError("OpenVINO is not installed: pip install 'layerdex[openvino]'")
        return None
    if precision is Dtype.BFLOAT16 and not has_bfloat16():
        if is_asked_for:
            raise OptionError(
                "OpenVINO does not compute in bfloat16 on this CPU: use --dtype float32, or "
                "--engine torch, which does so slowly"
            )
        logger.warning("OpenVINO is not used, as it does not compute in bfloat16 on this CPU")
        return None
    try:
        found = OpenVinoEngine.load(folder, pooling=pooling, precision=precision)
    except OSError as error:
        if is_asked_for:
            raise StorageError(f"cannot keep the converted model: {error}") from error
        logger.warning("OpenVINO is not used, as its cache cannot be written: %s", error)
        return None
    if found is None and is_asked_for:
        raise OptionError(
            f"OpenVINO does not compute the model {folder.name!r} in {precision} as torch does: "
            "use --engine torch"
        )
    return found


def _is_cpu(device: str) -> bool:
    if device == "auto" and may_have_gpu():
        return choose_devices(device)[0].type == "cpu"
    return device in ("auto", "cpu")
