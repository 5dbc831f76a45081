"""Weights rounded by their inputs: what one loses the others make up for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.indexer.engines.openvino.weight_rounding import round_rows


def correlated_inputs(width: int, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((4_000, width // 4)) @ random.standard_normal(
        (width // 4, width)
    )
    return (mixed + 0.3 * random.standard_normal(mixed.shape)).astype(np.float32)


@pytest.mark.parametrize("width", [40, 300])  # within one run of columns, and over three
def test_products_of_correlated_inputs_lose_less_than_by_the_nearest_numbers(width: int) -> None:
    states = correlated_inputs(width)
    weights = np.random.default_rng(1).standard_normal((24, width)).astype(np.float32)
    scales = (np.abs(weights).max(axis=1) / 127).astype(np.float32)
    nearest = np.rint(weights / scales[:, None])
    rounded = round_rows(weights, states.T @ states / len(states), scales)

    assert (rounded == np.rint(rounded)).all()
    assert np.abs(rounded).max() <= 127
    exact = states @ weights.T
    losses = [
        np.square(states @ (whole * scales[:, None]).T - exact).mean()
        for whole in (rounded, nearest)
    ]
    assert losses[0] < 0.6 * losses[1]
    assert not np.array_equal(rounded, nearest)


def test_inputs_that_are_not_correlated_leave_the_nearest_numbers() -> None:
    weights = np.random.default_rng(1).standard_normal((24, 40)).astype(np.float32)
    scales = (np.abs(weights).max(axis=1) / 127).astype(np.float32)
    spread = np.diag(np.linspace(1, 5, 40)).astype(np.float32)
    assert np.array_equal(round_rows(weights, spread, scales), np.rint(weights / scales[:, None]))


def test_an_input_that_is_always_zero_is_no_fault() -> None:
    states = correlated_inputs(40)
    states[:, :7] = 0
    weights = np.ones((3, 40), np.float32)
    scales = np.full(3, 1 / 127, np.float32)
    assert np.isfinite(round_rows(weights, states.T @ states / len(states), scales)).all()
