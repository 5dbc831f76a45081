"""What this machine's processor has instructions for."""

from __future__ import annotations

from pathlib import Path


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16 products (known on Linux only)."""
    return bool(_flags() & {"avx512_bf16", "amx_bf16"})


def cpu_has_int8() -> bool:
    """Return whether the CPU has instructions for int8 products (known on Linux only)."""
    return bool(_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def _flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return set()
