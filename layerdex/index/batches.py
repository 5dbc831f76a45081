"""Labels for the rows of a file: in batches, a prediction for each, none for a blank text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from layerdex.records import OnProgress
from layerdex.search.results import Prediction

N_IN_BATCH = 1_024
"""Texts whose vectors are in memory at once."""

Classify = Callable[[Sequence[str]], list[Prediction]]


def classify_batches(
    texts: Sequence[str | None], classify: Classify, *, on_progress: OnProgress | None = None
) -> Iterator[Prediction | None]:
    """Yield the prediction of each text, in order, and None for each None.

    ``classify`` gets at most `N_IN_BATCH` texts. ``on_progress`` counts texts.
    """
    for start in range(0, len(texts), N_IN_BATCH):
        batch = texts[start : start + N_IN_BATCH]
        found = iter(classify([text for text in batch if text is not None]))
        for text in batch:
            yield None if text is None else next(found)
        if on_progress is not None:
            on_progress(start + len(batch), len(texts))
