from __future__ import annotations

import numpy as np
import pytest
import torch

from layerdex.choices import Pooling
from layerdex.indexer.engines.torch.pooling import pool, pool_packed
from tests.indexer.plain import POOLINGS, unit

LENGTHS = [6, 1, 4]


@pytest.fixture
def states() -> torch.Tensor:
    made = torch.randn((3, 6, 8), generator=torch.Generator().manual_seed(0)) - 2
    for i, length in enumerate(LENGTHS):
        # What padding must not let through: larger than all else, and not a number.
        made[i, length:] = 1e4
    return made


@pytest.fixture
def mask() -> torch.Tensor:
    return (torch.arange(6) < torch.tensor(LENGTHS)[:, None]).long()


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLS, Pooling.MAX])
def test_pools_real_tokens_only(pooling: Pooling, states: torch.Tensor, mask: torch.Tensor) -> None:
    found = pool(states, mask, pooling)

    one_by_one = [
        POOLINGS[pooling.value](one[:length].double().numpy())
        for one, length in zip(states, LENGTHS, strict=True)
    ]
    assert found.dtype is torch.float32
    np.testing.assert_allclose(found.numpy(), unit(np.array(one_by_one)), atol=1e-6)


def test_mask_pooling_takes_each_texts_own_position(
    states: torch.Tensor, mask: torch.Tensor
) -> None:
    positions = torch.tensor([5, 0, 2])

    found = pool(states, mask, Pooling.MASK, mask_positions=positions)

    expected = unit(states.numpy()[[0, 1, 2], [5, 0, 2]])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_mask_pooling_needs_positions(states: torch.Tensor, mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="mask positions"):
        pool(states, mask, Pooling.MASK)


def test_sums_of_half_precision_states_run_in_float32() -> None:
    # In bfloat16 a sum of ones stops at 256.
    states = torch.ones((1, 2_000, 2), dtype=torch.bfloat16)
    states[:, :, 1] = 0.5
    mask = torch.ones((1, 2_000), dtype=torch.long)

    found = pool(states, mask, Pooling.MEAN)

    np.testing.assert_allclose(found.numpy(), unit(np.array([[2.0, 1.0]])), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masking_in_half_precision_loses_nothing(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn((5, 77, 24), generator=generator).to(dtype)
    mask = (torch.arange(77) < torch.tensor([77, 1, 40, 8, 76])[:, None]).long()

    found = pool(states, mask, Pooling.MEAN)

    sums = (states.float() * mask[..., None]).sum(dim=1)
    expected = torch.nn.functional.normalize(sums, dim=1)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


POSITIONS = [4, 0, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLS, Pooling.MAX, Pooling.MASK])
def test_packed_texts_are_pooled_each_on_its_own(
    pooling: Pooling, dtype: torch.dtype, states: torch.Tensor
) -> None:
    texts = [one[:length].to(dtype) for one, length in zip(states, LENGTHS, strict=True)]
    offsets = torch.tensor([0, 6, 7, 11], dtype=torch.int32)

    found = pool_packed(
        torch.cat(texts)[None], offsets, pooling, mask_positions=torch.tensor(POSITIONS)
    )

    exact = [one.double().numpy() for one in texts]
    one_by_one = [
        one[position] if pooling is Pooling.MASK else POOLINGS[pooling.value](one)
        for one, position in zip(exact, POSITIONS, strict=True)
    ]
    assert found.dtype is torch.float32
    np.testing.assert_allclose(found.numpy(), unit(np.array(one_by_one)), atol=1e-6)


def test_sums_over_packed_texts_in_half_precision_run_in_float32() -> None:
    states = torch.ones((1, 4_000, 2), dtype=torch.bfloat16)
    states[:, :2_000, 1] = 0.5
    offsets = torch.tensor([0, 2_000, 4_000], dtype=torch.int32)

    found = pool_packed(states, offsets, Pooling.MEAN)

    np.testing.assert_allclose(found.numpy(), unit(np.array([[2.0, 1.0], [1, 1]])), atol=1e-6)


def test_mask_pooling_of_packed_texts_needs_positions(states: torch.Tensor) -> None:
    offsets = torch.tensor([0, 6], dtype=torch.int32)

    with pytest.raises(ValueError, match="mask positions"):
        pool_packed(states[:1], offsets, Pooling.MASK)
