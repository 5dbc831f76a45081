"""Progress of comparisons: it moves within a layer, never back, and ends at its total."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from layerdex.records import OnProgress
from layerdex.search.dedup.greedy import _keep_greedily
from layerdex.search.evaluation import held_out
from layerdex.search.evaluation.metrics import resample
from layerdex.search.knn import close_pairs
from layerdex.search.knn.close_pairs import find_close_pairs
from layerdex.search.knn.tiles import costs, nearest, others, vectors
from layerdex.search.knn.tiles.arithmetic import Float32
from layerdex.search.knn.tiles.nearest import NearestSearch
from layerdex.search.knn.tiles.others import find_others
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.storage.snapshot import DocumentTable
from tests.search.knn.test_tiles import unit
from tests.search.small_tiles import use_small_tiles

_N, _WIDTH = 400, 24
_VECTORS = unit(np.random.default_rng(0).standard_normal((_N, _WIDTH)))
_ROWS = np.arange(_N)
_SOURCE = InMemoryVectors(_ROWS, _VECTORS)


def _search(on_progress: OnProgress) -> None:
    search = NearestSearch(_SOURCE, n_queries=9_999, arithmetic="float32", n_threads=1)
    search.find(_VECTORS, 3, on_progress=on_progress)


def _resample(on_progress: OnProgress) -> None:
    true = np.tile([0, 1], 10_000)
    resample(true, [true], n_resamples=12, on_progress=on_progress)


@pytest.mark.parametrize(
    "ask",
    [
        lambda tell: find_others(_SOURCE, _ROWS, 3, n_threads=1, on_progress=tell),
        lambda tell: find_close_pairs(_SOURCE, _ROWS, 0.5, on_progress=tell),
        lambda tell: _keep_greedily(_SOURCE, _ROWS, 0.6, None, tell),
        _search,
        _resample,
    ],
    ids=["others", "close pairs", "greedy", "nearest", "resamples"],
)
def test_progress_moves_in_small_steps_to_its_end(
    ask: Callable[[OnProgress], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_tiles(monkeypatch, 16)
    monkeypatch.setattr("layerdex.search.dedup.greedy.KEPT_BLOCK", 64)
    monkeypatch.setattr(vectors, "_BLOCK", 50)
    for module in (others, nearest, close_pairs):  # of many documents, codes take little of all
        monkeypatch.setattr(module, "ENCODE_NS", 10.0)
        monkeypatch.setattr(module, "READ_NS", 10.0)
    told: list[tuple[int, int]] = []

    def on_progress(done: int, total: int | None) -> None:
        assert total is not None
        told.append((done, total))

    ask(on_progress)
    done, totals = zip(*told, strict=True)
    assert len(set(totals)) == 1
    assert done[-1] == totals[0]
    assert (np.diff(done) >= 0).all()
    assert len(set(done)) >= 7
    assert max(np.diff([0, *done])) <= totals[0] / 2


def test_queries_cost_what_their_comparison_takes() -> None:
    # Codes are made of many vectors only, and for many queries only.
    plain_ns = Float32().score_ns(384)
    assert costs.pair_ns(100_000, 384, 7_999) == plain_ns == costs.pair_ns(1_000, 384, 9_999)
    assert costs.pair_ns(100_000, 384, 8_000) == costs.pair_ns(100_000, 384) != plain_ns
    assert costs.queries_ns(1, 1_000, 384) == 1_000 * (costs.READ_NS + plain_ns)
    assert costs.queries_ns(7_999, 100_000, 384) == 1e5 * (costs.READ_NS + 7_999 * plain_ns)
    assert costs.queries_ns(8_000, 100_000, 384) > 1e5 * (costs.READ_NS + costs.ENCODE_NS)


def test_blocks_of_a_plain_sample_have_equal_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "_BLOCK", 100)
    table = SimpleNamespace(rows=_ROWS, content_groups=_ROWS)
    told: list[int] = []
    blocks = held_out.nearest_of_sample(
        _SOURCE, cast("DocumentTable", table), _ROWS, 3, on_progress=lambda n, _: told.append(n)
    )
    assert [told[-1] for _ in blocks] == [100, 200, 300, 400]


@pytest.mark.parametrize(
    "ask",
    [
        lambda tell: find_others(_SOURCE, _ROWS, 3, on_progress=tell),
        lambda tell: find_close_pairs(_SOURCE, _ROWS, 0.5, on_progress=tell),
        lambda tell: NearestSearch(_SOURCE, n_queries=9).find(_VECTORS[:9], 3, on_progress=tell),
    ],
    ids=["others", "close pairs", "nearest"],
)
def test_progress_says_when_a_comparison_begins(ask: Callable[[OnProgress], object]) -> None:
    told: list[int] = []
    ask(lambda done, _: told.append(done))
    assert told[0] == 0
    assert told[-1] > 0
