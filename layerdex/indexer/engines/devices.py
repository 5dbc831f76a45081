"""Where an encoder runs and in which dtype."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.choices import Dtype
from layerdex.cpu import cpu_has_bfloat16
from layerdex.errors import OptionError

if TYPE_CHECKING:
    import torch

# Activations of such a batch fit in one core's cache: on Zen 3, 512 tokens are a tenth faster than
# 1,024 and a quarter faster than 2,048. For GPUs see `engines.torch.budget`.
CPU_TOKEN_BUDGET = 512


def bound_memory() -> None:
    """Limit oneDNN's cache of primitives, one for each batch shape, to 128.

    With the default of 1,024, memory grows steadily over the first 100,000 texts. This has no
    effect once torch has computed something.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def choose_devices(name: str) -> tuple[torch.device, ...]:
    """Return the devices that ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` stands for.

    ``cuda`` is every GPU that torch sees; ``auto`` is ``cuda`` if there is a GPU, else ``cpu``.
    Raises `OptionError` for a missing device.
    """
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if n_gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N") from error
    n_devices = {"cpu": 1, "cuda": n_gpus}.get(device.type, 0)
    if (device.index or 0) >= n_devices:
        raise OptionError(
            f"device {name!r} does not exist: this machine has {_describe_devices(n_gpus)}"
        )
    if name == "cuda":
        return tuple(torch.device("cuda", index) for index in range(n_gpus))
    return (device,)


def may_have_gpu() -> bool:
    """Return whether this machine has an NVIDIA driver, without importing torch."""
    return any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg"))


def choose_dtype(dtype: Dtype, device: torch.device) -> Dtype:
    """Return ``dtype``; for AUTO bfloat16 if the hardware computes in it, else float32.

    Without avx512_bf16 or AMX, bfloat16 on a CPU is 44 to 499 times slower (pytorch#146508).
    """
    import torch

    if dtype is not Dtype.AUTO:
        return dtype
    if device.type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_fast = cpu_has_bfloat16()
    return Dtype.BFLOAT16 if is_fast else Dtype.FLOAT32


def _describe_devices(n_gpus: int) -> str:
    return "cpu" if n_gpus == 0 else f"cpu and cuda:0 to cuda:{n_gpus - 1}"
