"""The parameters of a training run, and its results."""

from __future__ import annotations

from dataclasses import dataclass

from layerdex.arguments import check_between, check_count
from layerdex.choices import Loss


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a training run.

    ``rank`` is LoRA's; alpha is 2 × rank. The learning rate rises to ``learning_rate`` over the
    first twentieth of the steps, and falls to 0 at the end of the last of ``n_epochs``. Training
    stops early after ``patience`` epochs without a better accuracy on the held-out texts. A step
    uses ``batch_size`` texts. Raises `OptionError` for values out of range.
    """

    loss: Loss = Loss.HEAD
    rank: int = 8
    n_epochs: int = 6
    patience: int = 2
    batch_size: int = 64
    learning_rate: float = 1e-3
    dropout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("rank", "n_epochs", "patience"):
            check_count(name, getattr(self, name))
        check_count("batch_size", self.batch_size, least=2)
        check_count("seed", self.seed, least=0)
        check_between("learning_rate", self.learning_rate, 1e-8, 1.0)
        check_between("dropout", self.dropout, 0.0, 0.9)


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch's mean training loss, and the accuracy on held-out texts after it."""

    number: int
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Trained:
    """The results of a training run.

    ``losses`` has one value per step. ``n_trained`` is the number of parameters of the adapter and
    of a classification head; ``n_parameters`` includes the encoder up to the layer.
    """

    epochs: tuple[Epoch, ...]
    losses: tuple[float, ...]
    best_epoch: int
    n_trained: int
    n_parameters: int

    @property
    def share(self) -> float:
        """The share of parameters that were trained."""
        return self.n_trained / self.n_parameters
