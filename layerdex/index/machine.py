"""What a machine has for encoding and searching, and what is wrong with its installation."""

from __future__ import annotations

import os
import platform
import sqlite3
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from layerdex.cpu import cpu_has_bfloat16, cpu_has_int8

_NOT_INSTALLED = "not installed"
_FAISS_BUILDS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")


@dataclass(frozen=True, slots=True)
class Machine:
    """Versions, devices and models, each as text, and the problems that were found."""

    layerdex: str
    python: str
    cpu: str
    gpu: str
    torch: str
    transformers: str
    openvino: str
    int8: str
    faiss: str
    sqlite: str
    minilm: str
    cache: str
    problems: tuple[str, ...]


def describe_machine() -> Machine:
    """Look at this machine; torch is imported to find its GPUs."""
    builds = _faiss_builds()
    return Machine(
        layerdex=_version("layerdex"),
        python=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        cpu=_describe_cpu(),
        gpu=_describe_gpu(),
        torch=_version("torch"),
        transformers=_version("transformers"),
        openvino=_version("openvino"),
        int8=_describe_int8(),
        faiss=", ".join(f"{name} {number}" for name, number in builds.items()) or _NOT_INSTALLED,
        sqlite=sqlite3.sqlite_version,
        minilm=_describe_minilm(),
        cache=_describe_cache(),
        problems=_find_problems(builds),
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return _NOT_INSTALLED


def _describe_cpu() -> str:
    dtype = "bfloat16" if cpu_has_bfloat16() else "float32 (no avx512_bf16, no AMX)"
    return f"{len(os.sched_getaffinity(0))} cores, encodes in {dtype}"


def _describe_int8() -> str:
    nncf = _version("nncf")
    if nncf == _NOT_INSTALLED:
        nncf += " (pip install 'layerdex[int8]')"
    cpu = "VNNI or AMX" if cpu_has_int8() else "no VNNI, no AMX: slower than float32"
    return f"NNCF {nncf}; the CPU has {cpu}"


def _describe_gpu() -> str:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names) or "none that torch can use"


def _describe_minilm() -> str:
    from layerdex.errors import LayerdexError
    from layerdex.indexer.models.model_folder import find_model

    try:
        return f"the real one, at {find_model('minilm').path}"
    except LayerdexError as error:
        return str(error)


def _describe_cache() -> str:
    from layerdex.indexer.cache.location import cache_folder

    try:
        folder, *_ = map(cache_folder, ("", "openvino", "padding"))
    except OSError as error:  # there is no home, or others may write to the folder
        return f"not used: {error.strerror or error}"
    there = next(each for each in (folder, *folder.parents) if each.exists())
    is_writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return f"{folder}, {'usable' if is_writable else 'cannot be written'}"


def _faiss_builds() -> dict[str, str]:
    versions = {name: _version(name) for name in _FAISS_BUILDS}
    return {name: number for name, number in versions.items() if number != _NOT_INSTALLED}


def _find_problems(builds: dict[str, str]) -> tuple[str, ...]:
    if len(builds) > 1:
        names = " and ".join(builds)
        return (f"{names} overwrite each other's files: uninstall all, install one",)
    if find_spec("faiss") is None:
        return ("FAISS is missing: pip install 'layerdex[cpu]' or 'layerdex[gpu]'",)
    return ()
