"""How many documents may be removed at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layerdex.errors import OptionError, RemovalError
from layerdex.removals import RemovalLimit


@pytest.mark.parametrize(
    ("max_removed", "n_documents", "most"),
    [
        (0.1, 20, 2),
        (0.1, 19, 1),
        (0.1, 9, 0),
        (0.29, 100, 29),  # as floats, 0.29 * 100 is less than 29
        (0.07, 100, 7),
        (1.0, 7, 7),
        (1, 7, 1),
        (0, 7, 0),
        (0.0, 7, 0),
        (500, 7, 7),
    ],
)
def test_a_limit_is_exact(max_removed: float, n_documents: int, most: int) -> None:
    limit = RemovalLimit.parse(max_removed)
    allowed = [n for n in range(n_documents + 1) if limit.allows(n, n_documents)]
    assert allowed == list(range(most + 1))


@pytest.mark.parametrize(
    ("number", "most"), [(np.int64(5), 5), (np.uint8(0), 0), (np.float64(0.5), 0.5)]
)
def test_numbers_of_numpy_are_limits(number: Any, most: float) -> None:
    limit = RemovalLimit.parse(number)
    assert limit == RemovalLimit(most)
    assert type(limit.most) is type(most)


@pytest.mark.parametrize("value", [True, -1, 1.5, -0.1, float("nan"), "10%", None])
def test_another_limit_is_refused(value: Any) -> None:
    with pytest.raises(OptionError, match="max_removed is a number of documents"):
        RemovalLimit.parse(value)


def test_the_error_says_how_many_of_how_many_and_what_allows_them() -> None:
    with pytest.raises(RemovalError) as caught:
        RemovalLimit(0.25).check(1_300, 4_000, verb="deleted", outcome="nothing was deleted")
    assert str(caught.value) == (
        "1,300 of 4,000 documents would be deleted, more than 25%: nothing was deleted; "
        "--max-removed 1300 allows it"
    )
