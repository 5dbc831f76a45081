"""Values that are kept between questions: by commit, and within a number of bytes."""

from __future__ import annotations

from layerdex.storage.derived import DerivedCache


class _Made:
    def __init__(self, cache: DerivedCache) -> None:
        self.cache = cache
        self.made: list[str] = []

    def get(self, commit: int, key: str, n_bytes: int = 10) -> str:
        def compute() -> str:
            self.made.append(key)
            return f"{key} of {commit}"

        return self.cache.get(commit, key, compute, lambda _: n_bytes)


def test_a_value_is_computed_once_for_each_commit() -> None:
    made = _Made(DerivedCache(100))
    assert [made.get(commit, "a") for commit in (1, 2, 1, 2)] == ["a of 1", "a of 2"] * 2
    assert made.made == ["a", "a"]


def test_values_of_other_commits_go() -> None:
    made = _Made(DerivedCache(100))
    for commit in (1, 2):
        made.get(commit, "a")
    made.cache.keep_only(2)
    made.made.clear()
    made.get(2, "a")
    assert made.made == []
    made.get(1, "a")
    assert made.made == ["a"]


def test_the_value_that_was_used_least_recently_goes_first() -> None:
    made = _Made(DerivedCache(30))
    for key in ("a", "b", "c", "a", "d"):
        made.get(1, key)
    made.made.clear()
    for key in ("a", "c", "d", "b"):
        made.get(1, key)
    assert made.made == ["b"]


def test_a_value_of_more_than_half_of_all_is_not_kept_and_pushes_none_out() -> None:
    made = _Made(DerivedCache(30))
    made.get(1, "a")
    for _ in range(2):
        assert made.get(1, "large", 16) == "large of 1"
    made.get(1, "a")
    assert made.made == ["a", "large", "large"]


def test_room_is_free_again_after_a_commit() -> None:
    made = _Made(DerivedCache(30))
    for commit in range(50):
        for key in ("a", "b"):
            made.get(commit, key)
        made.cache.keep_only(commit)
    made.made.clear()
    for key in ("a", "b"):
        made.get(49, key)
    assert made.made == []
