"""How well each layer finds the documents that are judged relevant to queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count, format_value
from layerdex.choices import RetrievalRules
from layerdex.errors import NoLabelsError, SourceError
from layerdex.records import LayerName, OnProgress, Vectors, progress_of_parts
from layerdex.search.evaluation.best_layer import intervals_of, make_evaluation
from layerdex.search.evaluation.evaluation import (
    Evaluation,
    LayerScores,
    Retrieval,
    Subject,
)
from layerdex.search.evaluation.metrics import resample_means
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.storage.snapshot import DocumentTable

RETRIEVAL_METRICS = ("ndcg@10", "recall@100", "mrr@10")

_DEPTH = 100
_LEAST_RELEVANT = 1

Judgements = Mapping[str, Mapping[str, int]]
"""The grades of documents by id, for each query id; relevant is 1 or more, as in TREC."""


@dataclass(frozen=True, slots=True)
class JudgedQueries:
    """Queries with at least one judgement; one entry each.

    ``grades`` are by document id. ``n_left_out`` queries have no judgement.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    grades: tuple[Mapping[str, int], ...]
    n_left_out: int = 0
    rules: RetrievalRules = RetrievalRules.BEIR

    @property
    def judged(self) -> set[str]:
        """The ids of all judged documents."""
        return {document_id for grades in self.grades for document_id in grades}


def judged_queries(
    ids: Sequence[str],
    texts: Sequence[str],
    judgements: Judgements,
    *,
    rules: RetrievalRules = RetrievalRules.BEIR,
) -> JudgedQueries:
    """Return the queries that have a judgement, over which BEIR and trec_eval average.

    Raises `SourceError` for judgements of an unknown query and for an id that occurs twice,
    `NoLabelsError` if no query has a relevant document.
    """
    counts = Counter(ids)
    if repeated := next((query_id for query_id, n in counts.items() if n > 1), None):
        raise SourceError(f"two queries have the id {format_value(repeated)}")
    if unknown := [query_id for query_id in judgements if query_id not in counts]:
        raise SourceError(
            f"{len(unknown):,} of {len(judgements):,} judged queries are not among the queries, "
            f"such as {format_value(unknown[0])}"
        )
    kept = [i for i, query_id in enumerate(ids) if judgements.get(query_id)]
    queries = JudgedQueries(
        ids=tuple(ids[i] for i in kept),
        texts=tuple(texts[i] for i in kept),
        grades=tuple(judgements[ids[i]] for i in kept),
        n_left_out=len(ids) - len(kept),
        rules=rules,
    )
    if not any(map(_has_relevant, queries.grades)):
        raise NoLabelsError("no query has a relevant document (grade 1 or more)")
    return queries


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
    similarities ordered as there. Judged documents that are not in ``table`` count as not found.
    By BEIR's rules the document with a query's id is no hit of it (``ignore_identical_ids`` in
    BEIR's `EvaluateRetrieval`). Values are means over queries, and the intervals come from
    resampling queries.
    """
    check_count("n_resamples", n_resamples, least=0)
    retrieval = _describe(queries, table)
    depth = _DEPTH + (retrieval.n_own_left_out > 0)
    scores: list[LayerScores] = []
    resampled: dict[LayerName, NDArray[np.float64]] = {}
    for tell, space in zip(progress_of_parts(on_progress, len(spaces)), spaces, strict=True):
        neighbors = space.find(get_layer, vectors, depth, rows=table.rows, on_progress=tell)
        by_query = _score(_rankings(neighbors.rows, table, queries), queries)
        means = resampled[space.name] = resample_means(by_query, n_resamples=n_resamples)
        values = dict(zip(RETRIEVAL_METRICS, by_query.mean(axis=0).tolist(), strict=True))
        scores.append(LayerScores(space.target, values, intervals_of(RETRIEVAL_METRICS, means)))
        if tell is not None:
            tell(len(queries.ids), len(queries.ids))
    return make_evaluation(
        Subject.QUERIES,
        scores,
        resampled,
        metrics=RETRIEVAL_METRICS,
        n=len(queries.ids),
        n_left_out=queries.n_left_out,
        retrieval=retrieval,
    )


def _has_relevant(grades: Mapping[str, int]) -> bool:
    return any(grade >= _LEAST_RELEVANT for grade in grades.values())


def _describe(queries: JudgedQueries, table: DocumentTable) -> Retrieval:
    searched, judged = set(table.ids), queries.judged
    leaves_out = queries.rules is RetrievalRules.BEIR
    return Retrieval(
        rules=queries.rules,
        n_own_left_out=sum(query_id in searched for query_id in queries.ids) if leaves_out else 0,
        n_judged=len(judged),
        n_not_searched=len(judged - searched),
        n_without_relevant=sum(not _has_relevant(grades) for grades in queries.grades),
    )


def _rankings(
    rows: NDArray[np.int64], table: DocumentTable, queries: JudgedQueries
) -> Iterator[list[str]]:
    """Yield the ids of each query's hits, at most 100, from ``rows`` (n_queries, k)."""
    found = np.array(table.ids, dtype=object)[np.searchsorted(table.rows, rows)]
    for query_id, ids in zip(queries.ids, found.tolist(), strict=True):
        own = query_id if queries.rules is RetrievalRules.BEIR else None
        yield [document_id for document_id in ids if document_id != own][:_DEPTH]


def _score(rankings: Iterable[list[str]], queries: JudgedQueries) -> NDArray[np.float64]:
    """Return the metrics of each query, (n_queries, len(RETRIEVAL_METRICS))."""
    from ir_measures import RR, R, iter_calc, nDCG

    names = [str(i) for i in range(len(queries.ids))]
    # trec_eval orders equal scores by id: ranks keep the order of a search.
    runs = {
        name: {document_id: -float(rank) for rank, document_id in enumerate(ranking)}
        for name, ranking in zip(names, rankings, strict=True)
    }
    grades = {name: dict(graded) for name, graded in zip(names, queries.grades, strict=True)}
    measures = [nDCG @ 10, R @ 100, RR @ 10]
    by_query = np.full((len(names), len(measures)), np.nan)
    for metric in iter_calc(measures, grades, runs):
        by_query[int(metric.query_id), measures.index(metric.measure)] = metric.value
    if np.isnan(by_query).any():
        raise SourceError("some queries could not be scored")
    return by_query
