"""Measuring the layers of an index at a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from shlex import quote

from layerdex.arguments import format_value
from layerdex.choices import Classifier, TransformName
from layerdex.errors import NoLabelsError, OptionError, SourceError
from layerdex.index.heads import evaluate_head
from layerdex.index.open_index import OpenIndex, QueryVectors, query_vectors
from layerdex.index.target_options import TargetOptions, check_has_vectors
from layerdex.index.tasks import LabelTask, PairTask, PairTexts, RetrievalTask, Task
from layerdex.records import OnProgress, Vectors
from layerdex.search.evaluation.classification import (
    evaluate_leave_one_out,
    evaluate_on_folds,
    evaluate_on_test,
)
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.retrieval import JudgedQueries, evaluate_retrieval
from layerdex.search.evaluation.sentence_pairs import evaluate_pairs
from layerdex.search.knn.sampling import sample_documents
from layerdex.search.transforms.fit import N_FITTED, Fitter
from layerdex.storage.catalog.filters import Where
from layerdex.storage.snapshot import DocumentTable, Snapshot


def evaluate(
    index: OpenIndex,
    options: TargetOptions,
    task: Task,
    *,
    n_resamples: int,
    on_progress: OnProgress | None,
) -> Evaluation:
    """Measure the layers of a target, and all of them fused; see `View.evaluate`."""
    match task:
        case LabelTask(classifier=Classifier.HEAD):
            return evaluate_head(index, task, n_resamples=n_resamples)
        case LabelTask(test=None):
            return _evaluate_held_out(index, options, task, n_resamples, on_progress)
        case LabelTask():
            return _evaluate_test(index, options, task, n_resamples, on_progress)
        case RetrievalTask():
            return _evaluate_retrieval(index, options, task, n_resamples, on_progress)
        case PairTask():
            return _evaluate_pairs(index, options, task, n_resamples, on_progress)
        case _:
            raise not_a_task(task)


def not_a_task(task: object) -> OptionError:
    """Return the error for an object that is no task."""
    return OptionError(
        f"a task is a LabelTask, a RetrievalTask or a PairTask, not {format_value(task)}"
    )


def labelled_table(snapshot: Snapshot, where: Where, by: str, min_per_label: int) -> DocumentTable:
    """Return the documents with a label, or with a field that counts as one.

    Labels with fewer than ``min_per_label`` documents are left out. Raises `NoLabelsError` where
    fewer than two labels are left.
    """
    field = snapshot.find_field(by)
    table = None if field is None else snapshot.table_by(field, where)
    if field is None or table is None or not (table.ids or field.is_label):
        raise NoLabelsError(f"no document has a field {format_value(by)} to predict")
    frequent = table.with_frequent_labels(min_per_label)
    if len(set(frequent.labels)) < 2 <= len(set(table.labels)):
        raise NoLabelsError(
            f"fewer than two labels have {min_per_label} documents: lower --min-per-label"
        )
    return frequent


def check_judged(
    snapshot: Snapshot, queries: JudgedQueries, table: DocumentTable, where: Where
) -> None:
    """Raise `SourceError`, which names a likely cause, if no judged document is in ``table``."""
    judged = queries.judged
    if not judged.isdisjoint(table.ids):
        return
    ids = sorted(judged)
    if where and not judged.isdisjoint(snapshot.document_table().ids):
        cause = "the conditions leave them out"
    elif (field := snapshot.find_field_of(ids)) is not None:
        cause = (
            f"the documents have such values in the metadata field {format_value(field)}; "
            f"index them again with --id-field {quote(field)}"
        )
    else:
        cause = "the index has no document with such an id"
    raise SourceError(
        f"none of {len(ids):,} judged documents is searched, such as {format_value(ids[0])}: "
        f"{cause}"
    )


def with_label_field(evaluation: Evaluation, by: str) -> Evaluation:
    """Return an evaluation that says which field's values were predicted."""
    if evaluation.classification is None:
        return evaluation
    return replace(evaluation, classification=replace(evaluation.classification, label_field=by))


def check_no_conditions(options: TargetOptions) -> None:
    """Raise `OptionError` for conditions on documents, where none is asked about."""
    if options.where:
        raise OptionError("pairs are of texts, not of documents: leave out where")


def split_pairs(
    by_layer: Mapping[int, Vectors], n_pairs: int
) -> tuple[dict[int, Vectors], dict[int, Vectors]]:
    """Return the vectors of both sides by layer, from those of all first, then all second texts."""
    return (
        {layer: both[:n_pairs] for layer, both in by_layer.items()},
        {layer: both[n_pairs:] for layer, both in by_layer.items()},
    )


def pair_vectors(index: OpenIndex, pairs: PairTexts) -> QueryVectors:
    """Return the vectors of both sides of pairs, encoded together so that repeats cost nothing."""
    return QueryVectors(index, [*pairs.first, *pairs.second])


def _evaluate_held_out(
    index: OpenIndex,
    options: TargetOptions,
    task: LabelTask,
    n_resamples: int,
    on_progress: OnProgress | None,
) -> Evaluation:
    voting = task.voting(n_resamples)

    def question(snapshot: Snapshot) -> Evaluation:
        spaces = options.compared_spaces(index)
        check_has_vectors(spaces)
        table = labelled_table(snapshot, options.where, task.by, task.min_per_label)
        fit = Fitter(snapshot.layer, options.transform, spaces).fit
        if task.folds is None:
            fitted = [fit(space, table) for space in spaces]
            return evaluate_leave_one_out(
                snapshot.layer,
                table,
                voting,
                spaces=fitted,
                n_sampled=task.sample,
                seed=task.seed,
                on_progress=on_progress,
            )
        return evaluate_on_folds(
            snapshot.layer,
            table,
            voting,
            n_folds=task.folds,
            spaces=spaces,
            prepare=fit,
            on_progress=on_progress,
        )

    return with_label_field(index.query(question), task.by)


def _evaluate_test(
    index: OpenIndex,
    options: TargetOptions,
    task: LabelTask,
    n_resamples: int,
    on_progress: OnProgress | None,
) -> Evaluation:
    test = task.read_test(index.store)
    vectors, voting = QueryVectors(index, test.texts), task.voting(n_resamples)

    def question(snapshot: Snapshot) -> Evaluation:
        spaces = options.compared_spaces(index)
        check_has_vectors(spaces)
        table = labelled_table(snapshot, options.where, task.by, task.min_per_label)
        fit = Fitter(snapshot.layer, options.transform, spaces).fit
        return evaluate_on_test(
            snapshot.layer,
            table,
            voting,
            vectors=vectors.at(layer for space in spaces for layer in space.layers),
            test_labels=test.labels,
            spaces=[fit(space, table) for space in spaces],
            on_progress=on_progress,
        )

    return with_label_field(index.query(question), task.by)


def _evaluate_retrieval(
    index: OpenIndex,
    options: TargetOptions,
    task: RetrievalTask,
    n_resamples: int,
    on_progress: OnProgress | None,
) -> Evaluation:
    queries = task.read()
    vectors = query_vectors(index, queries.texts, task.query_template)

    def question(snapshot: Snapshot) -> Evaluation:
        spaces = options.compared_spaces(index)
        table = snapshot.document_table(options.where)
        check_judged(snapshot, queries, table, options.where)  # before a model is loaded
        fit = Fitter(snapshot.layer, options.transform, spaces).fit
        return evaluate_retrieval(
            snapshot.layer,
            table,
            queries,
            vectors=vectors.at(layer for space in spaces for layer in space.layers),
            spaces=[fit(space, table) for space in spaces],
            n_resamples=n_resamples,
            on_progress=on_progress,
        )

    return index.query(question)


def _evaluate_pairs(
    index: OpenIndex,
    options: TargetOptions,
    task: PairTask,
    n_resamples: int,
    on_progress: OnProgress | None,
) -> Evaluation:
    check_has_vectors(options.compared_spaces(index))
    check_no_conditions(options)
    pairs = task.read()
    vectors = pair_vectors(index, pairs)

    def question(snapshot: Snapshot) -> Evaluation:
        spaces = options.compared_spaces(index)
        by_layer = vectors.at(layer for space in spaces for layer in space.layers)
        sides = split_pairs(by_layer, len(pairs.first))
        if options.transform is not TransformName.NONE:
            sample = sample_documents(snapshot, n=N_FITTED)
            fit = Fitter(snapshot.layer, options.transform, spaces).fit
            spaces = [fit(space, sample) for space in spaces]
        return evaluate_pairs(
            sides,
            pairs.judgements,
            spaces=spaces,
            n_resamples=n_resamples,
            n_left_out=pairs.n_left_out,
            on_progress=on_progress,
        )

    return index.query(question)
