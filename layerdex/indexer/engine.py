"""The seam between the encoder and what computes: what an engine takes, gives and knows."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import MissingPackageError, OptionError, StorageError
from layerdex.indexer.devices import Precision, choose_devices, may_have_gpu
from layerdex.indexer.tokenizing import TokenizerFacts, Tokens
from layerdex.records import Pooling, Vectors

if TYPE_CHECKING:
    from layerdex.indexer.models import ModelFolder


logger = logging.getLogger(__name__)


class EngineName(StrEnum):
    """What computes the encoder's layers."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What must be known of a model beside its weights.

    ``n_positions`` is the most tokens that a text may have, special ones included.
    """

    depth: int
    width: int
    n_positions: int
    tokenizer: TokenizerFacts


@dataclass(frozen=True, slots=True)
class Batch:
    """Some texts' tokens, padded: ``ids`` and ``mask`` are (n, n_tokens) int64.

    ``places`` (n,) says which of the texts tokenised together these are; ``mask_positions`` (n,)
    where the template's mask token stands, for `Pooling.MASK`.
    """

    places: NDArray[np.int64]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    mask_positions: NDArray[np.int64] | None


Pooled = tuple[NDArray[np.int64], Sequence[Vectors]]
"""The places of a batch, and its unit vectors by layer, (n, width) float32 each."""


class Engine(Protocol):
    """Runs batches through the model and pools each chosen layer."""

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model."""
        ...

    @property
    def precision(self) -> Precision:
        """What it computes in, never `Precision.AUTO`."""
        ...

    @property
    def token_budget(self) -> int:
        """How many tokens a batch should hold to keep this engine's caches or cores filled."""
        ...

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Generator[Pooled]:
        """Yield the batches' vectors at ``layers`` (ascending), in the batches' order."""
        ...


def make_batch(tokens: Tokens, places: NDArray[np.int64], *, pad_id: int) -> Batch:
    """Pad the tokens of some texts to the longest of them."""
    rows = [tokens.ids[place] for place in places]
    shape = (len(rows), max(map(len, rows)))
    ids, mask = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    positions = tokens.mask_positions
    return Batch(places, ids, mask, None if positions is None else positions[places])


def load_engine(
    folder: ModelFolder, *, name: EngineName, pooling: Pooling, device: str, precision: Precision
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
    from layerdex.indexer.torch_engine import TorchEngine

    return TorchEngine(folder, pooling=pooling, device=device, precision=precision)


def _load_openvino(
    folder: ModelFolder, *, name: EngineName, pooling: Pooling, device: str, precision: Precision
) -> Engine | None:
    """Load the OpenVINO engine; None where that was not asked for by name and cannot be."""
    from layerdex.indexer.openvino_engine import OpenVinoEngine, has_bfloat16, is_installed

    is_asked_for = name is EngineName.OPENVINO
    if is_asked_for and device not in ("auto", "cpu"):
        raise OptionError(f"the openvino engine runs on the CPU, not on {device!r}")
    if not is_installed():
        if is_asked_for:
            raise MissingPackageError("OpenVINO is not installed: pip install 'layerdex[openvino]'")
        return None
    if precision is Precision.BFLOAT16 and not has_bfloat16():
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
