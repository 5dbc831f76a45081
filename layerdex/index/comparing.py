"""Measuring two indexes of the same documents at the same task."""

from __future__ import annotations

from collections.abc import Sequence

from layerdex.choices import TransformName
from layerdex.errors import OptionError, SourceError
from layerdex.index.evaluating import (
    check_judged,
    check_no_conditions,
    labelled_table,
    not_a_task,
    pair_vectors,
    split_pairs,
)
from layerdex.index.open_index import OpenIndex, query_vectors
from layerdex.index.target_options import TargetOptions, check_has_vectors
from layerdex.index.tasks import LabelTask, PairTask, RetrievalTask, Task
from layerdex.records import OnProgress
from layerdex.search.evaluation.comparison import (
    Comparison,
    SharedDocuments,
    compare_evaluations,
    match_documents,
)
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.paired_labels import Side, evaluate_both
from layerdex.search.evaluation.retrieval import evaluate_retrieval
from layerdex.search.evaluation.sentence_pairs import evaluate_pairs
from layerdex.storage.snapshot import Snapshot

Pair = tuple[OpenIndex, OpenIndex]


def compare(
    indexes: Pair,
    options: TargetOptions,
    task: Task,
    *,
    n_resamples: int,
    on_progress: OnProgress | None,
) -> Comparison:
    """Measure both indexes on the documents that they share; see `View.compare`."""
    if options.transform is not TransformName.NONE:
        raise OptionError("indexes are compared by their stored vectors: leave out transform")
    match task:
        case LabelTask(test=None):
            return _compare_labels(indexes, options, task, n_resamples, on_progress)
        case RetrievalTask():
            return _compare_retrieval(indexes, options, task, n_resamples, on_progress)
        case PairTask():
            return _compare_pairs(indexes, options, task, n_resamples, on_progress)
        case LabelTask():
            raise OptionError("indexes are compared by their own documents, not by a test set")
        case _:
            raise not_a_task(task)


def _compare_labels(
    indexes: Pair,
    options: TargetOptions,
    task: LabelTask,
    n_resamples: int,
    on_progress: OnProgress | None,
) -> Comparison:
    if task.sample is not None:
        raise OptionError("indexes are compared on all documents that they share, not on a sample")
    voting = task.voting(n_resamples)
    spaces = [options.compared_spaces(index) for index in indexes]
    for compared in spaces:
        check_has_vectors(compared)

    def question(first: Snapshot, second: Snapshot) -> Comparison:
        tables = [
            labelled_table(snapshot, options.where, task.by, task.min_per_label)
            for snapshot in (first, second)
        ]
        matched = match_documents(tables[0], tables[1], by_label=True)
        evaluations = evaluate_both(
            Side(first.layer, matched.first, spaces[0]),
            Side(second.layer, matched.second, spaces[1]),
            voting,
            n_folds=task.folds,
            on_progress=on_progress,
        )
        return _compare_matched(evaluations, matched)

    return indexes[0].query_with(indexes[1], question)


def _compare_retrieval(
    indexes: Pair,
    options: TargetOptions,
    task: RetrievalTask,
    n_resamples: int,
    on_progress: OnProgress | None,
) -> Comparison:
    spaces = [options.compared_spaces(index) for index in indexes]
    queries = task.read()
    vectors = [query_vectors(index, queries.texts, task.query_template) for index in indexes]

    def question(first: Snapshot, second: Snapshot) -> Comparison:
        snapshots = (first, second)
        tables = [snapshot.document_table(options.where) for snapshot in snapshots]
        for snapshot, table in zip(snapshots, tables, strict=True):
            check_judged(snapshot, queries, table, options.where)
        matched = match_documents(tables[0], tables[1], by_label=False)
        if queries.judged.isdisjoint(matched.first.ids):
            raise SourceError("no judged document is in both indexes with the same text")
        encoded = [
            of_index.at(layer for space in of_spaces for layer in space.layers)
            for of_index, of_spaces in zip(vectors, spaces, strict=True)
        ]
        evaluations = []
        for i, table in enumerate((matched.first, matched.second)):
            evaluations.append(
                evaluate_retrieval(
                    snapshots[i].layer,
                    table,
                    queries,
                    vectors=encoded[i],
                    spaces=spaces[i],
                    n_resamples=n_resamples,
                    on_progress=on_progress,
                )
            )
        return _compare_matched(evaluations, matched)

    return indexes[0].query_with(indexes[1], question)


def _compare_pairs(
    indexes: Pair,
    options: TargetOptions,
    task: PairTask,
    n_resamples: int,
    on_progress: OnProgress | None,
) -> Comparison:
    check_no_conditions(options)
    pairs = task.read()
    evaluations = []
    for index in indexes:
        spaces = options.compared_spaces(index)
        check_has_vectors(spaces)
        vectors = pair_vectors(index, pairs)
        by_layer = vectors.encode(layer for space in spaces for layer in space.layers)
        evaluations.append(
            evaluate_pairs(
                split_pairs(by_layer, len(pairs.first)),
                pairs.judgements,
                spaces=spaces,
                n_resamples=n_resamples,
                n_left_out=pairs.n_left_out,
                on_progress=on_progress,
            )
        )
    return compare_evaluations(*evaluations, n_documents=0)


def _compare_matched(evaluations: Sequence[Evaluation], matched: SharedDocuments) -> Comparison:
    first, second = evaluations
    return compare_evaluations(
        first,
        second,
        n_documents=len(matched.first.ids),
        n_only=matched.n_only,
        n_changed=matched.n_changed,
    )
