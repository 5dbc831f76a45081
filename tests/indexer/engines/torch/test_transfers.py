from __future__ import annotations

from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import pytest
import torch

from layerdex.indexer.engines.torch.transfers import PendingArray, Transfers


class LateEvent:
    """A copy that is whole only once somebody has waited for it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def synchronize(self) -> None:
        self._tensor.fill_(7)


def test_an_array_is_handed_out_only_after_its_copy() -> None:
    host = torch.zeros(2, 3)

    found = PendingArray(host, cast(Any, LateEvent(host))).wait()

    np.testing.assert_array_equal(found, np.full((2, 3), 7, dtype=np.float32))


def test_a_cpu_needs_no_copies() -> None:
    transfers = Transfers(torch.device("cpu"))
    array = np.arange(6, dtype=np.int64).reshape(2, 3)

    tensor = transfers.upload(array)
    back = transfers.download(tensor).wait()

    assert np.shares_memory(back, array)
    np.testing.assert_array_equal(back, array)


def test_a_gpus_result_is_copied_after_its_computation_and_kept_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []

    class Stream:
        def __init__(self, _device: torch.device) -> None:
            pass

        def wait_stream(self, stream: str) -> None:
            happened.append(f"wait for {stream}")

    class Event:
        def record(self, stream: object) -> None:
            happened.append(f"event on {type(stream).__name__}")

        def synchronize(self) -> None:
            happened.append("synchronize")

    make, copy = torch.empty, torch.Tensor.copy_

    def empty(*args: Any, pin_memory: bool, **kwargs: Any) -> torch.Tensor:
        happened.append("pinned" if pin_memory else "pageable")
        return make(*args, **kwargs)

    def copy_(target: torch.Tensor, source: torch.Tensor, *, non_blocking: bool) -> torch.Tensor:
        happened.append("copy" if non_blocking else "blocking copy")
        return copy(target, source)

    def record_stream(_tensor: torch.Tensor, stream: object) -> None:
        happened.append(f"kept for {type(stream).__name__}")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: "computation")
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.Tensor, "copy_", copy_)
    monkeypatch.setattr(torch.Tensor, "record_stream", record_stream)

    arriving = Transfers(torch.device("cuda", 1)).download(torch.ones(2, 3))
    happened.append("returned")
    found = arriving.wait()

    np.testing.assert_array_equal(found, np.ones((2, 3), dtype=np.float32))
    assert happened == [
        "wait for computation",
        "pinned",
        "copy",
        "event on Stream",
        "kept for Stream",
        "returned",
        "synchronize",
    ]
