from __future__ import annotations

from pathlib import Path

import pytest
import torch

from layerdex import cpu
from layerdex.choices import Dtype
from layerdex.errors import OptionError
from layerdex.indexer.engines.devices import choose_devices, choose_dtype

CPU = torch.device("cpu")


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def set_flags(monkeypatch: pytest.MonkeyPatch, path: Path, flags: str | None) -> None:
    if flags is not None:
        path.write_text(f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\n\n" * 2)
    monkeypatch.setattr(cpu, "Path", lambda name: path if name == "/proc/cpuinfo" else None)


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_a_gpu_the_cpu_is_used(name: str) -> None:
    assert choose_devices(name) == (CPU,)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auto", ("cuda:0", "cuda:1")),
        ("cuda", ("cuda:0", "cuda:1")),
        ("cuda:0", ("cuda:0",)),
        ("cuda:1", ("cuda:1",)),
        ("cpu", ("cpu",)),
    ],
)
def test_all_gpus_are_used_unless_one_is_named(name: str, expected: tuple[str, ...]) -> None:
    assert choose_devices(name) == tuple(map(torch.device, expected))


def test_gpus_that_torch_cannot_use_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert choose_devices("auto") == (CPU,)
    with pytest.raises(OptionError, match=r"cuda.*this machine has cpu$"):
        choose_devices("cuda")


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "meta", "cpu:3"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=f"{name}.*this machine has cpu$"):
        choose_devices(name)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_beyond_the_last_is_refused_with_those_there_are() -> None:
    with pytest.raises(OptionError, match="cuda:0 to cuda:1"):
        choose_devices("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "CPU!", "auto:1"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="unknown device"):
        choose_devices(name)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f avx512_bf16 avx512_vnni", Dtype.BFLOAT16),
        ("fpu avx2 amx_bf16 amx_tile", Dtype.BFLOAT16),
        ("fpu avx2 avx512f avx512_vnni", Dtype.FLOAT32),
        # Not the instructions, only names that contain theirs.
        ("fpu avx512_bf16x xamx_bf16 bf16", Dtype.FLOAT32),
        ("", Dtype.FLOAT32),
        (None, Dtype.FLOAT32),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_its_flags_say_so(
    flags: str | None,
    expected: Dtype,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_flags(monkeypatch, tmp_path / "cpuinfo", flags)

    assert choose_dtype(Dtype.AUTO, CPU) is expected


@pytest.mark.parametrize("flags", ["avx2", "avx512_bf16"])
def test_an_explicit_precision_wins(
    flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_flags(monkeypatch, tmp_path / "cpuinfo", flags)

    assert choose_dtype(Dtype.FLOAT32, CPU) is Dtype.FLOAT32
    assert choose_dtype(Dtype.BFLOAT16, CPU) is Dtype.BFLOAT16


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_gpu_computes_in_bfloat16_only_where_it_need_not_emulate_it(
    is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_supported(*, including_emulation: bool) -> bool:
        return is_fast or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)

    expected = Dtype.BFLOAT16 if is_fast else Dtype.FLOAT32
    assert choose_dtype(Dtype.AUTO, torch.device("cuda")) is expected
