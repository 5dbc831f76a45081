"""A sample of labelled documents, drawn label by label, and what it says about all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import OptionError
from layerdex.search.evaluation.metrics import Codes

_LEAST_PER_LABEL = 2
"""One document would say nothing about how much those of its label differ."""


@dataclass(frozen=True, slots=True)
class LabelSample:
    """Documents drawn from all n with a label.

    ``positions`` (n_sampled,) ascend from 0 to n - 1, ``true`` (n_sampled,) are their label codes,
    and ``n_of_label`` (n_labels,) int64 counts the documents of each label among the n.
    """

    positions: NDArray[np.int64]
    true: Codes
    n_of_label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n(self) -> int:
        """The number of documents that it was drawn from."""
        return int(self.n_of_label.sum())

    @property
    def n_raised(self) -> int:
        """How many labels have more documents in the sample than their share of it.

        Of the other labels each document then stands for many more, and one of those that gets a
        rare label wrongly decides the label's precision: such documents are hardly ever drawn.
        """
        least = least_of_each(self.n_of_label)
        return int(np.sum(self.n_of_label * len(self) < least * self.n))

    @property
    def n_for_share(self) -> int:
        """How many documents a label needs for a share of two documents of the sample."""
        return -(-_LEAST_PER_LABEL * self.n // len(self))

    @property
    def weights(self) -> NDArray[np.float64]:
        """How many documents each stands for, (n_sampled,): their sum is n."""
        n_drawn = np.bincount(self.true, minlength=len(self.n_of_label))
        return (self.n_of_label / n_drawn)[self.true]

    def draw_weights(self, n_resamples: int, *, seed: int = 0) -> Iterator[NDArray[np.float64]]:
        """Yield, for each resample, how many documents each stands for, (n_sampled,).

        Of m documents of a label, m - 1 are drawn, with replacement: drawing m would make a label
        of two documents look half as uncertain as it is (the rescaling bootstrap: Rao and Wu,
        *Journal of the American Statistical Association* 83, 1988). How many documents the labels
        have is drawn as well, so that an interval says the same as that of a whole evaluation,
        whose resamples draw from all documents: there is no correction for a finite population.
        """
        random = np.random.default_rng(seed)
        order = np.argsort(self.true, kind="stable")
        sizes = np.bincount(self.true, minlength=len(self.n_of_label))
        starts = np.cumsum(sizes) - sizes
        n_drawn = np.maximum(sizes - 1, 1)
        label = np.repeat(np.arange(len(sizes)), n_drawn)
        for _ in range(n_resamples):
            n_of_label = random.multinomial(self.n, self.n_of_label / self.n)
            drawn = starts[label] + random.integers(sizes[label])
            each = np.bincount(order[drawn], minlength=len(self))
            yield each * (n_of_label / n_drawn)[self.true]


def draw_sample(codes: Codes, n: int, *, seed: int) -> LabelSample | None:
    """Draw n documents from all whose labels are ``codes``; None stands for all of them.

    Each label gets its share of n (proportional allocation: Cochran, *Sampling Techniques*, 1977,
    5.5), but at least two documents, or the only one. Raises `OptionError` for an n below that.
    """
    if n >= len(codes):
        return None
    n_of_label = np.bincount(codes)
    sizes = allocate(n_of_label, n)
    random = np.random.default_rng(seed)
    by_label = np.split(np.argsort(codes, kind="stable"), np.cumsum(n_of_label)[:-1])
    drawn = [
        random.choice(positions, size, replace=False)
        for positions, size in zip(by_label, sizes.tolist(), strict=True)
    ]
    positions = np.sort(np.concatenate(drawn))
    return LabelSample(positions, codes[positions], n_of_label)


def least_of_each(n_of_label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many documents of each label a sample has at least, (n_labels,)."""
    return np.minimum(n_of_label, _LEAST_PER_LABEL)


def allocate(n_of_label: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return how many of n documents each label gets, (n_labels,); see `draw_sample`."""
    least = least_of_each(n_of_label)
    if n < least.sum():
        raise OptionError(
            f"a sample needs at least two documents of each label, {least.sum():,} in all, got "
            f"{n:,}: draw more, or leave rare labels out (--min-per-label)"
        )
    share = n_of_label * (n / n_of_label.sum())
    is_least = np.zeros(len(share), np.bool_)
    while (is_short := ~is_least & (share < least)).any():
        # What these get above their share, the others lack, and more of them may now be short.
        is_least |= is_short
        left = n - least[is_least].sum()
        share[~is_least] = n_of_label[~is_least] * (left / max(n_of_label[~is_least].sum(), 1))
    sizes = np.where(is_least, least, np.floor(share)).astype(np.int64)
    fraction = np.where(is_least, -1.0, share - sizes)
    sizes[np.argsort(-fraction, kind="stable")[: n - sizes.sum()]] += 1
    return sizes
