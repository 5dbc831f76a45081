"""How well each layer finds the documents that were judged relevant to queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count, format_value
from layerdex.errors import NoLabelsError, SourceError
from layerdex.records import LayerName, OnProgress, Vectors
from layerdex.search.evaluation.measurement import Measurement, Resampled, Subject, measure
from layerdex.search.evaluation.metrics import resample_means
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.storage.snapshot import DocumentTable

RETRIEVAL_METRICS = ("ndcg@10", "recall@100", "mrr@10")

_DEPTH = 100
_LEAST_RELEVANT = 1

Judgements = Mapping[str, Mapping[str, int]]
"""For each query's id the grades of documents by id; relevant is 1 or more, as in TREC."""


@dataclass(frozen=True, slots=True)
class JudgedQueries:
    """The judged queries of an evaluation, n of them, and those that were left out.

    ``grades`` are those of each query's documents that are searched. ``n_left_out`` queries have
    no relevant document.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    grades: tuple[Mapping[str, int], ...]
    n_left_out: int = 0


def judged_queries(
    ids: Sequence[str],
    texts: Sequence[str],
    judgements: Judgements,
) -> JudgedQueries:
    """Return the queries that have a relevant document; the others say nothing of a layer.

    Raises `SourceError` for judgements of a query that is not there or an id that is there twice,
    `NoLabelsError` where no query is left.
    """
    counts = Counter(ids)
    if repeated := next((one for one, n in counts.items() if n > 1), None):
        raise SourceError(f"two queries have the id {format_value(repeated)}")
    if unknown := [one for one in judgements if one not in counts]:
        raise SourceError(
            f"{len(unknown):,} of {len(judgements):,} judged queries are not among the queries, "
            f"such as {format_value(unknown[0])}"
        )
    return _with_relevant(ids, texts, [judgements.get(one, {}) for one in ids])


def _with_relevant(
    ids: Sequence[str], texts: Sequence[str], grades: Sequence[Mapping[str, int]], n_left: int = 0
) -> JudgedQueries:
    chosen = [i for i, one in enumerate(grades) if any(g >= _LEAST_RELEVANT for g in one.values())]
    if not chosen:
        raise NoLabelsError("no query has a relevant document (grade 1 or more)")
    return JudgedQueries(
        tuple(ids[i] for i in chosen),
        tuple(texts[i] for i in chosen),
        tuple(grades[i] for i in chosen),
        n_left + len(ids) - len(chosen),
    )


def check_judged(queries: JudgedQueries, ids: Sequence[str]) -> None:
    """Raise `SourceError` for judgements of documents that are none of those searched."""
    known = set(ids)
    judged = {one for grades in queries.grades for one in grades}
    if unknown := sorted(judged - known):
        raise SourceError(
            f"{len(unknown):,} of {len(judged):,} judged documents are not searched, such as "
            f"{format_value(unknown[0])}: the index does not have them, "
            "or the conditions leave them out"
        )


def among(queries: JudgedQueries, ids: Sequence[str]) -> JudgedQueries:
    """Return queries with the grades of these documents alone, where a relevant one is left."""
    known = set(ids)
    grades = [{i: g for i, g in one.items() if i in known} for one in queries.grades]
    return _with_relevant(queries.ids, queries.texts, grades, queries.n_left_out)


def evaluate_retrieval(
    get_layer: GetLayer,
    table: DocumentTable,
    queries: JudgedQueries,
    *,
    vectors: Mapping[int, Vectors],
    spaces: Sequence[VectorSpace],
    n_resamples: int,
    on_progress: OnProgress | None = None,
) -> Measurement:
    """Measure nDCG@10, recall@100 and MRR@10 of the queries, whose ``vectors`` are by layer.

    The values are trec_eval's (through `ir_measures`: MacAvaney, Macdonald and Ounis, ECIR 2022)
    for the ranking that a search gives, equal similarities ordered as there. A query's figures
    are means over queries, and the intervals come from resampling queries.
    """
    check_count("n_resamples", n_resamples, least=0)
    measured: dict[LayerName, Resampled] = {}
    for space in spaces:
        found = space.find(get_layer, vectors, _DEPTH, rows=table.rows)
        by_query = _score(found, table, queries)
        means = resample_means(by_query, n_resamples=n_resamples)
        measured[space.name] = Resampled(by_query.mean(axis=0), means)
        if on_progress is not None:
            on_progress(len(measured), len(spaces))
    return measure(
        Subject.QUERIES,
        measured,
        metrics=RETRIEVAL_METRICS,
        n=len(queries.ids),
        n_left_out=queries.n_left_out,
    )


def _score(found: Neighbors, table: DocumentTable, queries: JudgedQueries) -> NDArray[np.float64]:
    """Return each query's figures, (n_queries, len(RETRIEVAL_METRICS))."""
    from ir_measures import RR, R, iter_calc, nDCG

    ids = np.array(table.ids, dtype=object)[np.searchsorted(table.rows, found.rows)]
    # trec_eval orders equal scores by id: ranks keep the order of a search.
    scores = [-float(rank) for rank in range(found.rows.shape[1])]
    names = [str(i) for i in range(len(queries.ids))]
    runs = {name: dict(zip(row, scores, strict=True)) for name, row in zip(names, ids, strict=True)}
    grades = {name: dict(one) for name, one in zip(names, queries.grades, strict=True)}
    measures = [nDCG @ 10, R @ 100, RR @ 10]
    by_query = np.full((len(names), len(measures)), np.nan)
    for one in iter_calc(measures, grades, runs):
        by_query[int(one.query_id), measures.index(one.measure)] = one.value
    if np.isnan(by_query).any():
        raise SourceError("some queries could not be scored")
    return by_query
