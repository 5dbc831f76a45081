"""Where an index's questions compare many vectors: on the CPU, or on a GPU that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerdex.indexer.engines.devices import choose_devices

if TYPE_CHECKING:
    from layerdex.search.knn.tiles.device import Device


class SearchDevice:
    """The device of a name of `RuntimeOptions`, chosen when a comparison needs one first.

    ``auto`` is the CPU until comparisons on a GPU have been measured. PyTorch is imported when a
    GPU is needed, and not at all on the CPU. Of several GPUs the first is used. Calling
    it returns None for the CPU, and raises `OptionError` for a device that does not exist.
    """

    def __init__(self, name: str = "auto") -> None:
        self._name = name
        self._is_chosen = False
        self._device: Device | None = None

    def __call__(self) -> Device | None:
        """Return the device; None is the CPU."""
        if not self._is_chosen:
            self._device = self._choose()
            self._is_chosen = True
        return self._device

    def _choose(self) -> Device | None:
        if self._name in ("auto", "cpu"):
            return None
        from layerdex.search.knn.tiles.device import Device

        device = choose_devices(self._name)[0]
        return Device(str(device)) if device.type == "cuda" else None
