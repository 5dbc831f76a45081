from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from layerdex.indexer.text.batches import plan_batches

LENGTHS = st.lists(st.integers(1, 512), max_size=200).map(lambda one: np.array(one, dtype=np.int32))
BUDGETS = st.integers(1, 40_000)


@settings(deadline=None)
@given(LENGTHS, BUDGETS)
def test_each_text_is_in_exactly_one_batch(lengths: np.ndarray, token_budget: int) -> None:
    batches = plan_batches(lengths, token_budget=token_budget)

    assert all(len(batch) for batch in batches)
    indices = [int(i) for batch in batches for i in batch]
    assert sorted(indices) == list(range(len(lengths)))


@settings(deadline=None)
@given(LENGTHS, BUDGETS)
def test_a_padded_batch_keeps_to_the_budget_unless_it_is_one_text(
    lengths: np.ndarray, token_budget: int
) -> None:
    for batch in plan_batches(lengths, token_budget=token_budget):
        n_padded = len(batch) * int(lengths[batch].max())
        assert n_padded <= token_budget or len(batch) == 1


@settings(deadline=None)
@given(LENGTHS, BUDGETS)
def test_a_batch_ends_only_where_it_is_full_or_would_pad_much(
    lengths: np.ndarray, token_budget: int
) -> None:
    batches = plan_batches(lengths, token_budget=token_budget)

    for batch, after in itertools.pairwise(batches):
        following = int(lengths[after].min())
        is_full = (len(batch) + 1) * following > token_budget
        n_padded = len(batch) * int(lengths[batch].max())
        is_worthwhile = 8 * n_padded >= token_budget
        assert is_full or (is_worthwhile and following > 1.25 * int(lengths[batch].min()))


@settings(deadline=None)
@given(LENGTHS, BUDGETS)
def test_a_batch_with_much_padding_holds_little(lengths: np.ndarray, token_budget: int) -> None:
    for batch in plan_batches(lengths, token_budget=token_budget):
        shortest, longest = int(lengths[batch].min()), int(lengths[batch].max())
        before = batch[lengths[batch] < longest]
        if longest > 1.25 * shortest:
            assert 8 * len(before) * int(lengths[before].max()) < token_budget


def test_a_large_budget_pads_texts_of_mixed_lengths_little() -> None:
    lengths = np.random.default_rng(0).integers(4, 257, size=4_096).astype(np.int32)

    batches = plan_batches(lengths, token_budget=65_536)

    n_padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert 1 - lengths.sum() / n_padded < 0.12
    assert len(batches) < 20


@settings(deadline=None)
@given(LENGTHS, BUDGETS)
def test_texts_of_near_equal_length_share_a_batch(lengths: np.ndarray, token_budget: int) -> None:
    batches = plan_batches(lengths, token_budget=token_budget)

    in_order = [int(lengths[i]) for batch in batches for i in batch]
    assert in_order == sorted(lengths.tolist())


@settings(deadline=None)
@given(LENGTHS, BUDGETS)
def test_the_plan_is_a_function_of_the_lengths_and_the_budget(
    lengths: np.ndarray, token_budget: int
) -> None:
    first = plan_batches(lengths, token_budget=token_budget)
    again = plan_batches(lengths.copy(), token_budget=token_budget)

    assert [one.tolist() for one in first] == [one.tolist() for one in again]


def test_equal_lengths_keep_their_order() -> None:
    lengths = np.array([5, 3, 5, 3, 5], dtype=np.int32)

    batches = plan_batches(lengths, token_budget=10)

    assert [batch.tolist() for batch in batches] == [[1, 3], [0, 2], [4]]


def test_a_text_over_the_budget_is_a_batch_of_its_own() -> None:
    lengths = np.array([4, 100, 4, 50], dtype=np.int32)

    batches = plan_batches(lengths, token_budget=10)

    assert [batch.tolist() for batch in batches] == [[0, 2], [3], [1]]
