"""The rules of BEIR and of trec_eval, against pytrec_eval on the rankings of NumPy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from layerdex.choices import RetrievalRules
from layerdex.records import Vectors
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.retrieval import JudgedQueries, evaluate_retrieval
from layerdex.search.knn.vector_space import layer_spaces
from layerdex.storage.store import Store
from tests.search.stores import add, create, unit_codes

N, N_QUERIES, WIDTH = 130, 20, 5
METRICS = ["ndcg_cut_10", "recall_100", "recip_rank"]
BEIR, TREC = RetrievalRules


def evaluate(store: Store, queries: JudgedQueries, asked: Vectors, k: int = 0) -> Evaluation:
    return store.query(
        lambda snapshot: evaluate_retrieval(
            snapshot.layer,
            snapshot.document_table(),
            queries,
            vectors={0: asked},
            spaces=layer_spaces([0]),
            n_resamples=k,
        )
    )


def by_pytrec_eval(
    queries: JudgedQueries, vectors: Vectors, asked: Vectors
) -> tuple[float, float, float]:
    """Return the means by pytrec_eval, of rankings from which BEIR's own documents are popped."""
    first, second = (
        each.astype(np.float64) / np.linalg.norm(each.astype(np.float64), axis=1, keepdims=True)
        for each in (asked, vectors)
    )
    runs: dict[str, dict[str, float]] = {}
    for query, of_query in zip(queries.ids, np.round(first @ second.T, 5), strict=True):
        order = np.lexsort((np.arange(len(vectors)), -of_query))
        # Distinct scores, as pytrec_eval orders equal ones by id.
        run = {f"d{i}": float(len(order) - rank) for rank, i in enumerate(order)}
        if queries.rules is BEIR:
            run.pop(query, None)
        runs[query] = run
    qrels = dict(zip(queries.ids, map(dict, queries.grades), strict=True))
    measures = {"ndcg_cut.10", "recall.100", "recip_rank"}
    scores = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(runs)
    for one in scores.values():  # at 10: nothing for a first relevant hit below
        one["recip_rank"] *= one["recip_rank"] >= 1 / 10
    ndcg, recall, rank = (np.mean([one[name] for one in scores.values()]) for name in METRICS)
    return float(ndcg), float(recall), float(rank)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rules", RetrievalRules)
def test_random_rankings_are_scored_as_pytrec_eval_does(
    tmp_path: Path, seed: int, rules: RetrievalRules
) -> None:
    random = np.random.default_rng(seed)
    # Of few directions, so that many similarities are equal.
    vectors = unit_codes(random.integers(-1, 2, (1, N, WIDTH)) + np.eye(WIDTH)[0] / 2)[0]
    asked = vectors[:N_QUERIES].astype(np.float32)
    grades = []
    for i in range(N_QUERIES):
        judged = random.choice(N + 20, size=random.integers(1, 12), replace=False)
        # Documents from N on are missing; each third query's own document is judged.
        of_query = {f"d{j}": int(random.integers(-1, 4)) for j in judged}
        grades.append({**of_query, f"d{i}": 2} if i % 3 == 0 else of_query)
    # Half of the queries have the id of a document: their own, whose text is theirs.
    ids = [f"d{i}" if i % 2 else f"q{i}" for i in range(N_QUERIES)]
    queries = JudgedQueries(tuple(ids), tuple(ids), tuple(grades), rules=rules)
    store = create(tmp_path / "index", width=WIDTH)
    add(store, vectors[None])
    found = evaluate(store, queries, asked)
    expected = by_pytrec_eval(queries, vectors.astype(np.float32), asked)
    assert tuple(found.best.values.values()) == pytest.approx(expected, abs=1e-9)
    documents = {document_id for judgements in grades for document_id in judgements}
    assert found.retrieval is not None
    assert found.retrieval.n_judged == len(documents)
    assert found.retrieval.n_not_searched == len(documents - {f"d{i}" for i in range(N)}) > 0
    assert found.retrieval.n_own_left_out == (N_QUERIES // 2 if rules is BEIR else 0)
    n_without = sum(max(judgements.values()) < 1 for judgements in grades)
    assert found.retrieval.n_without_relevant == n_without


@pytest.fixture
def dozen(tmp_path: Path) -> Store:
    """Documents d0 to d11, in the order of their similarity to the first direction."""
    store = create(tmp_path / "index", width=2)
    angles = np.arange(12) / 10
    add(store, unit_codes(np.stack([np.cos(angles), np.sin(angles)], axis=1)))
    return store


FIRST = np.array([[1, 0]], np.float32)


def test_ten_hits_are_left_without_the_own_document(dozen: Store) -> None:
    # The own document is the first hit, and d10 the eleventh.
    queries = JudgedQueries(("d0",), ("x",), ({"d10": 1},))
    beir = evaluate(dozen, queries, FIRST).best.values
    assert beir["mrr@10"] == pytest.approx(1 / 10)
    assert beir["ndcg@10"] == pytest.approx(1 / np.log2(11))
    trec = evaluate(dozen, replace(queries, rules=TREC), FIRST).best.values
    assert (trec["mrr@10"], trec["ndcg@10"], trec["recall@100"]) == (0, 0, 1)


def test_a_judgement_of_the_own_document_stays_and_is_missed(dozen: Store) -> None:
    queries = JudgedQueries(("d0",), ("x",), ({"d0": 1, "d1": 1},))
    beir = evaluate(dozen, queries, FIRST).best.values
    assert beir["recall@100"] == 1 / 2
    assert beir["ndcg@10"] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    trec = evaluate(dozen, replace(queries, rules=TREC), FIRST).best.values
    assert trec == pytest.approx({"ndcg@10": 1, "recall@100": 1, "mrr@10": 1})


def test_a_document_of_another_id_is_not_the_own_one(dozen: Store) -> None:
    queries = JudgedQueries(("q",), ("x",), ({"d0": 1},))
    found = evaluate(dozen, queries, FIRST)
    assert found.best.values == pytest.approx({"ndcg@10": 1, "recall@100": 1, "mrr@10": 1})
    assert found.retrieval is not None
    assert found.retrieval.n_own_left_out == 0


def test_missing_documents_count_in_the_ideal_ranking_and_in_recall(dozen: Store) -> None:
    queries = JudgedQueries(("q",), ("x",), ({"d0": 1, "gone": 3},))
    found = evaluate(dozen, queries, FIRST).best.values
    assert found["recall@100"] == 1 / 2
    assert found["ndcg@10"] == pytest.approx(1 / (3 + 1 / np.log2(3)))
    assert found["mrr@10"] == 1


def test_a_judged_query_without_a_relevant_document_counts_0(dozen: Store) -> None:
    queries = JudgedQueries(("q", "r"), ("x", "y"), ({"d0": 1}, {"d0": 0, "d1": -2}))
    found = evaluate(dozen, queries, np.repeat(FIRST, 2, axis=0))
    assert found.n == 2
    assert found.best.values == pytest.approx({"ndcg@10": 0.5, "recall@100": 0.5, "mrr@10": 0.5})
    assert found.retrieval is not None
    assert found.retrieval.n_without_relevant == 1


def test_a_query_whose_own_document_is_the_only_one_finds_nothing(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=2)
    add(store, unit_codes(np.ones((1, 2))))
    queries = JudgedQueries(("d0",), ("x",), ({"d0": 1},))
    found = evaluate(store, queries, FIRST, k=10)
    assert set(found.best.values.values()) == {0}
