"""Folds of labelled documents that share no text."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.errors import NoLabelsError, OptionError
from layerdex.search.evaluation.metrics import Codes
from layerdex.search.knn.voting import encode_labels
from layerdex.storage.snapshot import DocumentTable


def two_labels(table: DocumentTable) -> tuple[tuple[str, ...], Codes]:
    """Return the names of the labels, and each document's code, (n,).

    Raises `NoLabelsError` for fewer than two labels.
    """
    names, codes = encode_labels(table.labels)
    if len(names) < 2:
        raise NoLabelsError(
            f"evaluation needs documents of at least two labels, got {len(names)}: "
            "index a source with a label field (--label-field), or filter less (--where)"
        )
    return names, codes


def assign_folds(codes: Codes, groups: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    """Return the fold of each document, (n,) from 0.

    Folds have about the same share of each label, and documents of one group, which are those
    with the same text, are in the same fold (scikit-learn's ``StratifiedGroupKFold``, shuffled
    with seed 0). Raises `OptionError` for fewer than 2 folds, or more than there are texts or
    documents of the most frequent label.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    n_texts = len(np.unique(groups))
    if not 2 <= check_count("folds", n_folds) <= n_texts:
        raise OptionError(
            f"folds must be between 2 and the number of texts, {n_texts}, got {n_folds}"
        )
    if (n_most := int(np.bincount(codes).max())) < n_folds:
        raise OptionError(
            f"{n_folds} folds need a label with at least {n_folds} documents, and the most "
            f"frequent has {n_most}: index more documents, or take fewer folds"
        )
    folds = np.empty(len(codes), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # A label with fewer documents than folds is missing from some folds, and may be.
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held_out) in enumerate(splitter.split(codes, codes, groups)):
            folds[held_out] = fold
    return folds
