"""Which segments a run merges after it: few are left, and little is copied."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest

from layerdex.storage.maintenance.merge_policy import TARGET_DOCUMENTS, choose_merges

WINDOW = 4_096
HALF = TARGET_DOCUMENTS // 2


def _settle(sizes: list[int]) -> int:
    """Merge in place until nothing is left to merge; return how many documents were copied."""
    n_copied = 0
    while merges := choose_merges(sizes):
        for merge in reversed(merges):
            n_merged = sum(sizes[merge.start : merge.stop])
            assert len(merge) > 1
            assert n_merged <= TARGET_DOCUMENTS
            assert all(size <= HALF for size in sizes[merge.start : merge.stop])
            sizes[merge.start : merge.stop] = [n_merged]
            n_copied += n_merged
    return n_copied


def _add(adds: Iterable[int]) -> tuple[int, list[int], int]:
    """Return how many segments there were at most, those at the end, and documents copied."""
    sizes: list[int] = []
    n_most = n_copied = 0
    for n in adds:
        sizes.append(n)
        n_copied += _settle(sizes)
        n_most = max(n_most, len(sizes))
    return n_most, sizes, n_copied


def test_few_segments_are_left_alone() -> None:
    for n in range(10):
        assert choose_merges([1] * n) == []
    assert choose_merges([1] * 10) == [range(10)]
    assert choose_merges([100, *[1] * 9]) == []
    assert choose_merges([100, *[1] * 10]) == [range(1, 11)]


def test_single_documents_leave_at_most_nine_segments_a_power_of_ten() -> None:
    n = 4_000
    n_most, sizes, n_copied = _add([1] * n)
    assert sum(sizes) == n
    assert n_most <= 9 * (math.floor(math.log10(n)) + 1) + 1
    assert n_copied <= n * math.log10(n)  # each is copied once a level
    assert _add([1] * 999)[1] == [100] * 9 + [10] * 9 + [1] * 9
    assert _add([1] * 1_000)[1] == [1_000]


@pytest.mark.parametrize("seed", range(5))
def test_adds_of_any_sizes_leave_few_segments_and_copy_little(seed: int) -> None:
    chance = random.Random(seed)
    adds = [int(10 ** chance.uniform(0, 3.5)) for _ in range(400)]
    n_most, sizes, n_copied = _add(adds)
    assert sum(sizes) == sum(adds)
    assert n_most <= 9 * math.ceil(math.log10(sum(adds)) / 0.75) + 10
    assert n_copied <= 6 * sum(adds)


def test_full_segments_are_never_copied() -> None:
    full = HALF + 1
    assert choose_merges([full] * 30) == []
    mixed = [*[full] * 3, *[5] * 6, full + 1, *[5] * 10]
    assert choose_merges(mixed) == [range(10, 20)]


def test_segments_that_fill_the_target_are_merged_before_there_are_ten() -> None:
    size = TARGET_DOCUMENTS // 5
    assert choose_merges([size] * 5) == []
    assert choose_merges([size] * 6) == [range(5)]
    assert choose_merges([size] * 11) == [range(5), range(5, 10)]
    assert choose_merges([HALF, HALF, HALF]) == [range(2)]


@pytest.mark.parametrize("n_together", [1, 64])
def test_ten_million_documents_are_some_hundred_segments_and_copied_twice(n_together: int) -> None:
    """Windows that are merged after each, as by runs of one, or after 64, as in a long run."""
    n_windows = 10_000_000 // WINDOW
    sizes: list[int] = []
    n_copied, n_most = 0, 0
    for n in range(0, n_windows, n_together):
        sizes += [WINDOW] * min(n_together, n_windows - n)
        n_copied += _settle(sizes)
        n_most = max(n_most, len(sizes))
    assert n_most <= 60
    assert n_copied <= (1 if n_together > 1 else 2) * n_windows * WINDOW


@pytest.mark.parametrize("lowest", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_a_document_is_copied_seven_times_at_most(seed: int, lowest: int) -> None:
    chance = random.Random(seed)
    sizes: list[int] = []
    ages: list[int] = []  # how often the documents of each segment were copied
    while sum(sizes) < 3_000_000:
        sizes.append(int(10 ** chance.uniform(lowest, 4.5)))
        ages.append(0)
        while merges := choose_merges(sizes):
            for merge in reversed(merges):
                at = slice(merge.start, merge.stop)
                sizes[at], ages[at] = [sum(sizes[at])], [max(ages[at]) + 1]
    assert max(ages) <= 7
    assert len(sizes) <= 60


def test_smaller_segments_between_large_ones_go_with_them() -> None:
    assert choose_merges([500, 1] * 5) == []  # the last is not before one of the level
    assert choose_merges([500, 1] * 5 + [500]) == [range(11)]


def test_dead_segments_count_as_small() -> None:
    assert choose_merges([0] * 10) == [range(10)]


def test_a_long_level_is_merged_at_once_within_the_target() -> None:
    sizes = [32] * 12_500
    assert choose_merges(sizes) == [range(8_192), range(8_192, 12_500)]
    assert _settle(sizes) == 400_000
