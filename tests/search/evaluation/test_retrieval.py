"""Retrieval figures, against their definitions in NumPy and scikit-learn, and their refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from layerdex.choices import Fuse
from layerdex.errors import NoLabelsError, SourceError
from layerdex.search.evaluation.evaluation import Evaluation, Subject
from layerdex.search.evaluation.retrieval import (
    JudgedQueries,
    evaluate_retrieval,
    judged_queries,
)
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.storage.store import Store
from tests.search.stores import add, create, unit_codes

N, N_QUERIES, WIDTH, N_LAYERS = 150, 12, 8, 3
RANDOM = np.random.default_rng(4)
VECTORS = RANDOM.standard_normal((N_LAYERS, N, WIDTH))
# At layers 1 and 2 a query is close to its document, at layer 0 it is anywhere.
ASKED = RANDOM.standard_normal((N_LAYERS, N_QUERIES, WIDTH))
ASKED[1:] = VECTORS[1:, :N_QUERIES] + 0.3 * ASKED[1:]
GRADES = [
    {f"d{i}": 2, f"d{20 + i}": 1, f"d{40 + i}": 0, f"d{60 + i}": -1} for i in range(N_QUERIES)
]
QUERIES = JudgedQueries(
    tuple(f"q{i}" for i in range(N_QUERIES)),
    tuple(f"text {i}" for i in range(N_QUERIES)),
    tuple(GRADES),
    n_left_out=3,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = create(tmp_path_factory.mktemp("retrieval") / "index", width=WIDTH, n_layers=N_LAYERS)
    add(store, unit_codes(VECTORS))
    return store


def evaluate(store: Store, *spaces: VectorSpace, n_resamples: int = 0) -> Evaluation:
    vectors = {i: unit_codes(one).astype(np.float32) for i, one in enumerate(ASKED)}
    return store.query(
        lambda snapshot: evaluate_retrieval(
            snapshot.layer,
            snapshot.document_table(),
            QUERIES,
            vectors=vectors,
            spaces=spaces,
            n_resamples=n_resamples,
        )
    )


def by_hand(layer: int) -> tuple[float, float, float]:
    """Return nDCG@10 by scikit-learn, recall@100 and MRR@10 by their definitions."""
    kept = unit_codes(VECTORS[layer]).astype(np.float64)
    asked = unit_codes(ASKED[layer]).astype(np.float64)
    gains, recalls, ranks = [], [], []
    for query, grades in zip(asked, GRADES, strict=True):
        similarities = kept @ query / np.linalg.norm(kept, axis=1) / np.linalg.norm(query)
        grade = np.array([max(grades.get(f"d{i}", 0), 0) for i in range(N)])
        gains.append(ndcg_score([grade], [similarities], k=10))
        relevant = grade[np.argsort(-similarities)] > 0
        recalls.append(relevant[:100].sum() / relevant.sum())
        first = int(np.argmax(relevant))
        ranks.append(1 / (first + 1) if first < 10 else 0)
    return float(np.mean(gains)), float(np.mean(recalls)), float(np.mean(ranks))


def test_the_figures_are_those_of_the_definitions(store: Store) -> None:
    found = evaluate(store, *layer_spaces([0, 1, 2]))
    assert found.subject is Subject.QUERIES
    assert (found.n, found.n_left_out) == (N_QUERIES, 3)
    for layer in range(N_LAYERS):
        assert tuple(found.at(layer).values.values()) == pytest.approx(by_hand(layer))
    assert [*found.at(1).values] == ["ndcg@10", "recall@100", "mrr@10"]
    assert found.best_layer == max(range(N_LAYERS), key=lambda layer: by_hand(layer)[0])
    assert found.frugal is None
    assert found.at(0).intervals == {}


def test_a_difference_that_may_be_chance_makes_a_frugal_layer(store: Store) -> None:
    found = evaluate(store, *layer_spaces([0, 1, 2]), n_resamples=300)
    interval = found.best.intervals["ndcg@10"]
    assert interval.low < found.best.values["ndcg@10"] < interval.high
    assert found.frugal is not None
    # Layer 0 finds nothing, which is no chance; the difference of the others may be.
    assert found.frugal.layer == 1
    best, one = by_hand(found.best_layer)[0], by_hand(1)[0]
    assert found.frugal.loss == pytest.approx(best - one)


def test_layers_are_measured_fused_and_by_fused_ranks(store: Store) -> None:
    mean, ranks = (
        VectorSpace(SearchTarget((0, 1), how, (0.001, 1.0))) for how in (Fuse.CONCAT, Fuse.RRF)
    )
    found = evaluate(store, *layer_spaces([0, 1]), mean, ranks)
    # With next to no weight for layer 0, both rank as layer 1 does.
    for space in (mean, ranks):
        assert found.at(space.name).values == pytest.approx(found.at(1).values, abs=0.02)
        assert found.at(0).values != pytest.approx(found.at(1).values, abs=0.02)
    assert found.best_layer == 1


def test_equal_similarities_are_ranked_as_a_search_ranks_them(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=WIDTH)
    add(store, unit_codes(np.ones((12, WIDTH))))
    queries = JudgedQueries(("q",), ("x",), ({"d2": 1},))
    found = store.query(
        lambda snapshot: evaluate_retrieval(
            snapshot.layer,
            snapshot.document_table(),
            queries,
            vectors={0: np.ones((1, WIDTH), np.float32)},
            spaces=layer_spaces([0]),
            n_resamples=0,
        )
    )
    # trec_eval's own rule is by id, where d10 and d11 come between d1 and d2.
    assert found.best.values["mrr@10"] == pytest.approx(1 / 3)
    assert found.best.values["ndcg@10"] == pytest.approx(1 / np.log2(3 + 1))


def test_queries_without_a_judgement_are_left_out_and_counted() -> None:
    judgements = {"a": {"d": 1}, "b": {"d": 0}, "c": {}}
    found = judged_queries(["c", "a", "b", "e"], ["w", "x", "y", "z"], judgements)
    assert (found.ids, found.texts) == (("a", "b"), ("x", "y"))
    assert (found.grades, found.n_left_out) == (({"d": 1}, {"d": 0}), 2)


def test_ids_that_are_not_there_are_errors() -> None:
    with pytest.raises(SourceError, match=r"1 of 2 judged queries .* such as 'b'"):
        judged_queries(["a"], ["x"], {"a": {"d": 1}, "b": {"d": 1}})
    with pytest.raises(SourceError, match="two queries have the id 'a'"):
        judged_queries(["a", "a"], ["x", "y"], {"a": {"d": 1}})
    with pytest.raises(NoLabelsError, match="no query"):
        judged_queries(["a"], ["x"], {"a": {"d": 0}})
