"""Where an encoder runs and in which dtype."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.choices import Dtype
from layerdex.errors import OptionError

if TYPE_CHECKING:
    import torch

# Batches for one core whose activations stay in its cache: on Zen 3, 512 tokens beat 1,024 by a
# tenth and 2,048 by a quarter. What a GPU wants instead is in `budget`.
CPU_TOKEN_BUDGET = 512


def bound_memory() -> None:
    """Keep oneDNN from remembering a primitive for every shape of batch that it ever saw.

    Its cache holds 1,024 by default, which with batches of many shapes is a steady growth over
    the first 100,000 texts. Has no effect once torch has computed something.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def choose_devices(name: str) -> tuple[torch.device, ...]:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` into the devices to encode on together.

    ``cuda`` is every GPU that torch sees, ``auto`` the same where there is one, else the CPU.
    Raises `OptionError` for anything that is not there.
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
            f"device {name!r} is not there: this machine has {_describe_devices(n_gpus)}"
        )
    if name == "cuda":
        return tuple(torch.device("cuda", index) for index in range(n_gpus))
    return (device,)


def may_have_gpu() -> bool:
    """Say whether this machine has an NVIDIA driver, without importing torch to ask it."""
    return any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg"))


def choose_dtype(dtype: Dtype, device: torch.device) -> Dtype:
    """Pick bfloat16 where the hardware computes in it, else float32; an explicit choice wins.

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


def cpu_has_bfloat16() -> bool:
    """Say whether the CPU has instructions for bfloat16 products (read on Linux only)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _describe_devices(n_gpus: int) -> str:
    return "cpu" if n_gpus == 0 else f"cpu and cuda:0 to cuda:{n_gpus - 1}"
