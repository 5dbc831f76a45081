"""What to train and for how long, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from layerdex.arguments import check_between, check_count
from layerdex.choices import Loss


@dataclass(frozen=True, slots=True)
class Plan:
    """How an adapter is trained.

    ``rank`` is LoRA's, whose changes count twice (alpha = 2 × rank). ``learning_rate`` is reached
    after a twentieth of the steps and falls to 0 at the end of the last of ``n_epochs``; training
    ends earlier after ``patience`` epochs without a better accuracy on the held-out texts. A step
    sees ``batch_size`` texts. Raises `OptionError` for values out of range.
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
        """Hold the numbers to their ranges."""
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
    """What training did.

    ``losses`` are those of the single steps. ``n_trained`` counts the adapter's parameters and
    those of a classification head; ``n_parameters`` the encoder's up to the layer, adapter and head
    included.
    """

    epochs: tuple[Epoch, ...]
    losses: tuple[float, ...]
    best_epoch: int
    n_trained: int
    n_parameters: int

    @property
    def share(self) -> float:
        """The share of the parameters that were trained."""
        return self.n_trained / self.n_parameters
