"""Arrays to a device and back; with a GPU through pinned memory, and without waiting for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PendingArray:
    """A result on its way: ``tensor`` is in host memory, but whole only after ``copied``."""

    tensor: Tensor
    copied: torch.cuda.Event | None

    def wait(self) -> NDArray[Any]:
        """Return the array once all of it is there; raises what went wrong on the device."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.tensor.numpy()


class Transfers:
    """Copies between the host and one device.

    Results leave a GPU on a stream of their own, so that the copy of one batch runs beside the
    computation of the next.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._downloads = (
            torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            if device.type == "cuda"
            else None
        )

    def upload(self, array: NDArray[np.signedinteger[Any]]) -> Tensor:
        """Return the array on the device; on a GPU the copy may still be under way."""
        tensor = torch.from_numpy(array)
        if self._downloads is None:
            return tensor.to(self._device)
        # torch keeps the pinned block from being used again before this copy has happened.
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def download(self, tensor: Tensor) -> PendingArray:
        """Start copying a tensor to the host."""
        if self._downloads is None:
            return PendingArray(tensor, None)
        self._downloads.wait_stream(torch.cuda.current_stream(self._device))
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._downloads):
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            host.copy_(tensor, non_blocking=True)
            copied.record(self._downloads)
        # Its memory was allocated on the computing stream, which must not reuse it until then.
        tensor.record_stream(self._downloads)
        return PendingArray(host, copied)
