"""Copies of arrays to a device and back; for a GPU asynchronous, through pinned memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PendingArray:
    """A result in host memory, complete only after the event ``copied``."""

    tensor: Tensor
    copied: torch.cuda.Event | None

    def wait(self) -> NDArray[Any]:
        """Wait for the copy and return the array. Raises the errors of the device."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.tensor.numpy()


class Transfers:
    """Copies between the host and one device.

    Results are copied from a GPU on a separate stream, while the next batch is computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._downloads = (
            torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            if device.type == "cuda"
            else None
        )

    def upload(self, array: NDArray[np.signedinteger[Any]]) -> Tensor:
        """Return the array on the device; on a GPU the copy may not have finished."""
        tensor = torch.from_numpy(array)
        if self._downloads is None:
            return tensor.to(self._device)
        # torch does not reuse the pinned block before this copy is done.
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
        # The computing stream allocated the memory, and must not reuse it before the copy is done.
        tensor.record_stream(self._downloads)
        return PendingArray(host, copied)
