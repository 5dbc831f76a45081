"""How well each layer finds the documents that are judged relevant to queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count, format_value
from layerdex.errors import NoLabelsError, SourceError
from layerdex.records import LayerName, OnProgress, Vectors
from layerdex.search.evaluation.evaluation import (
    Evaluation,
    LayerScores,
    Subject,
    intervals_of,
    make_evaluation,
)
from layerdex.search.evaluation.metrics import resample_means
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.storage.snapshot import DocumentTable

RETRIEVAL_METRICS = ("ndcg@10", "recall@100", "mrr@10")

_DEPTH = 100
_LEAST_RELEVANT = 1

Judgements = Mapping[str, Mapping[str, int]]
"""The grades of documents by id, for each query id; relevant is 1 or more, as in TREC."""


@dataclass(frozen=True, slots=True)
class JudgedQueries:
    """Queries with at least one relevant document; one entry each.

    ``grades`` are by document id. ``n_left_out`` queries have no relevant document.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    grades: tuple[Mapping[str, int], ...]
    n_left_out: int = 0

    def restrict_to(self, document_ids: Sequence[str]) -> JudgedQueries:
        """Return the queries with a relevant document among these, and grades of these only.

        Raises `NoLabelsError` if no query is left.
        """
        known = set(document_ids)
        grades = [{i: g for i, g in graded.items() if i in known} for graded in self.grades]
        return _with_relevant(self.ids, self.texts, grades, self.n_left_out)


def judged_queries(
    ids: Sequence[str], texts: Sequence[str], judgements: Judgements
) -> JudgedQueries:
    """Return the queries that have a relevant document; the others say nothing about a layer.

    Raises `SourceError` for judgements of an unknown query and for an id that occurs twice,
    `NoLabelsError` if no query is left.
    """
    counts = Counter(ids)
    if repeated := next((query_id for query_id, n in counts.items() if n > 1), None):
        raise SourceError(f"two queries have the id {format_value(repeated)}")
    if unknown := [query_id for query_id in judgements if query_id not in counts]:
        raise SourceError(
            f"{len(unknown):,} of {len(judgements):,} judged queries are not among the queries, "
            f"such as {format_value(unknown[0])}"
        )
    return _with_relevant(ids, texts, [judgements.get(query_id, {}) for query_id in ids])


def check_judged(queries: JudgedQueries, document_ids: Sequence[str]) -> None:
    """Raise `SourceError` for judgements of documents that are not searched."""
    known = set(document_ids)
    judged = {document_id for grades in queries.grades for document_id in grades}
    if unknown := sorted(judged - known):
        raise SourceError(
            f"{len(unknown):,} of {len(judged):,} judged documents are not searched, such as "
            f"{format_value(unknown[0])}: the index does not have them, "
            "or the conditions leave them out"
        )


def evaluate_retrieval(
    get_layer: GetLayer,
    table: DocumentTable,
    queries: JudgedQueries,
    *,
    vectors: Mapping[int, Vectors],
    spaces: Sequence[VectorSpace],
    n_resamples: int,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Return nDCG@10, recall@100 and MRR@10 of n queries at each space.

    ``vectors`` are the queries' by layer, (n, width). The values are trec_eval's (through
    `ir_measures`: MacAvaney, Macdonald and Ounis, ECIR 2022) for the ranking of a search, equal
    similarities ordered as there. They are means over queries, and the intervals come from
    resampling queries.
    """
    check_count("n_resamples", n_resamples, least=0)
    scores: list[LayerScores] = []
    resampled: dict[LayerName, NDArray[np.float64]] = {}
    for space in spaces:
        neighbors = space.find(get_layer, vectors, _DEPTH, rows=table.rows)
        by_query = _score(neighbors, table, queries)
        means = resampled[space.name] = resample_means(by_query, n_resamples=n_resamples)
        values = dict(zip(RETRIEVAL_METRICS, by_query.mean(axis=0).tolist(), strict=True))
        scores.append(LayerScores(space.target, values, intervals_of(RETRIEVAL_METRICS, means)))
        if on_progress is not None:
            on_progress(len(scores), len(spaces))
    return make_evaluation(
        Subject.QUERIES,
        scores,
        resampled,
        metrics=RETRIEVAL_METRICS,
        n=len(queries.ids),
        n_left_out=queries.n_left_out,
    )


def _with_relevant(
    ids: Sequence[str], texts: Sequence[str], grades: Sequence[Mapping[str, int]], n_left: int = 0
) -> JudgedQueries:
    has_relevant = [any(g >= _LEAST_RELEVANT for g in graded.values()) for graded in grades]
    if not any(has_relevant):
        raise NoLabelsError("no query has a relevant document (grade 1 or more)")
    return JudgedQueries(
        tuple(compress(ids, has_relevant)),
        tuple(compress(texts, has_relevant)),
        tuple(compress(grades, has_relevant)),
        n_left + has_relevant.count(False),
    )


def _score(
    neighbors: Neighbors, table: DocumentTable, queries: JudgedQueries
) -> NDArray[np.float64]:
    """Return the metrics of each query, (n_queries, len(RETRIEVAL_METRICS))."""
    from ir_measures import RR, R, iter_calc, nDCG

    ids = np.array(table.ids, dtype=object)[np.searchsorted(table.rows, neighbors.rows)]
    # trec_eval orders equal scores by id: ranks keep the order of a search.
    ranks = [-float(rank) for rank in range(neighbors.rows.shape[1])]
    names = [str(i) for i in range(len(queries.ids))]
    runs = {name: dict(zip(row, ranks, strict=True)) for name, row in zip(names, ids, strict=True)}
    grades = {name: dict(graded) for name, graded in zip(names, queries.grades, strict=True)}
    measures = [nDCG @ 10, R @ 100, RR @ 10]
    by_query = np.full((len(names), len(measures)), np.nan)
    for metric in iter_calc(measures, grades, runs):
        by_query[int(metric.query_id), measures.index(metric.measure)] = metric.value
    if np.isnan(by_query).any():
        raise SourceError("some queries could not be scored")
    return by_query
