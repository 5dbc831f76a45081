"""Measuring which layer to trust."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from layerdex.arguments import (
    check_callbacks,
    check_count,
    check_type,
    format_value,
    to_choice,
    to_list,
)
from layerdex.choices import Fuse, TransformName, Weights
from layerdex.errors import NoLabelsError, OptionError
from layerdex.index.places import Places
from layerdex.layers import LayerSelection
from layerdex.records import OnProgress, Source
from layerdex.search.evaluation.classification import (
    evaluate_leave_one_out,
    evaluate_on_folds,
    evaluate_on_test,
)
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.vote_scores import N_RESAMPLES, VotingOptions
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.transforms.fit import Fitter
from layerdex.storage.snapshot import DocumentTable, Snapshot, Where

if TYPE_CHECKING:
    from layerdex.choices import Format
    from layerdex.indexer.readers import Fields


LABEL = "label"


class Evaluations(Places):
    """The part of `Index` that measures its layers."""

    def evaluate(
        self,
        *,
        layers: LayerSelection = "all",
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        k: int | Sequence[int] = 10,
        weights: Weights | str | Sequence[Weights | str] = Weights.DISTANCE,
        by: str = LABEL,
        where: Expressions = None,
        min_per_label: int = 1,
        folds: int | None = None,
        test: Source | None = None,
        fields: Fields | None = None,
        format: Format | str = "auto",
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Evaluation:
        """Measure neighbour classification at each layer: leaving one out, on folds or a test set.

        With ``fuse`` the layers are measured fused as well. ``by`` is ``label`` or the metadata
        field whose values count as labels; a test set's are its labels. Labels with fewer than
        ``min_per_label`` documents are left out. ``n_resamples`` of the documents give the
        intervals; 0 gives none.

        A ``transform`` is fitted on the documents that may vote: of each fold's on those of the
        others, and leaving one out, once, on all. No label enters the fit. The shrinkage of
        whitening is chosen on folds of the same documents by their labels; leaving one out, by
        labels that are predicted afterwards, one number for all.
        """
        spaces, conditions = self._compared(layers, fuse), parse_where(where)
        how = to_choice(TransformName, transform)
        check_type(by, str, what="evaluate by one field")
        check_count("min_per_label", min_per_label)
        check_callbacks(on_progress=on_progress)
        choices = voting_options(k, weights, n_resamples)
        if folds is not None:
            check_count("folds", folds, least=2)
            if test is not None:
                raise OptionError("give folds or a test set, not both")
        if test is None:

            def question(snapshot: Snapshot) -> Evaluation:
                table = labelled_table(snapshot, conditions, by, min_per_label)
                given = (snapshot.layer, table, choices)
                fit = Fitter(snapshot.layer, how, spaces).fit
                if folds is None:
                    fitted = [fit(space, table) for space in spaces]
                    return evaluate_leave_one_out(*given, spaces=fitted, on_progress=on_progress)
                return evaluate_on_folds(
                    *given, n_folds=folds, spaces=spaces, prepare=fit, on_progress=on_progress
                )

            return with_label_field(self.store.query(question), by)
        from layerdex.indexer.readers.sources import read_labelled

        texts, labels = read_labelled(test, format=format, fields=fields)
        vectors = self.encode_at(texts, spaces)

        def test_question(snapshot: Snapshot) -> Evaluation:
            table = labelled_table(snapshot, conditions, by, min_per_label)
            fit = Fitter(snapshot.layer, how, spaces).fit
            return evaluate_on_test(
                snapshot.layer,
                table,
                choices,
                vectors=vectors,
                test_labels=labels,
                spaces=[fit(space, table) for space in spaces],
                on_progress=on_progress,
            )

        return with_label_field(self.store.query(test_question), by)

    def _compared(self, layers: LayerSelection, fuse: Fuse | str | None) -> tuple[VectorSpace, ...]:
        if fuse is None:
            return layer_spaces(self.resolve_layers(layers))
        fused = self.space(layers, fuse)
        return (*layer_spaces(fused.layers), fused)


def with_label_field(evaluation: Evaluation, by: str) -> Evaluation:
    """Return an evaluation that says which field's values were predicted."""
    if evaluation.classification is None:
        return evaluation
    return replace(evaluation, classification=replace(evaluation.classification, label_field=by))


def voting_options(
    k: int | Sequence[int], weights: Weights | str | Sequence[Weights | str], n_resamples: int
) -> VotingOptions:
    """Return what to compare, each number and word held to its kind; else `OptionError`."""
    ks = to_list(k, what="k is a number or several") if isinstance(k, Iterable) else [k]
    words = [weights] if isinstance(weights, str) else weights
    words = to_list(words, what="weights are a word or several")
    return VotingOptions(
        ks=tuple(dict.fromkeys(check_count("k", one) for one in ks)),
        weights=tuple(dict.fromkeys(to_choice(Weights, word) for word in words)),
        n_resamples=n_resamples,
    )


def labelled_table(snapshot: Snapshot, where: Where, by: str, min_per_label: int) -> DocumentTable:
    """Return the table of documents with a label, or with a field that counts as one.

    Labels with fewer than ``min_per_label`` documents are left out; `NoLabelsError` where fewer
    than two are left for that.
    """
    table = (
        snapshot.document_table(where, labelled=True)
        if by == LABEL
        else snapshot.table_by(by, where)
    )
    if by != LABEL and not table.ids:
        raise NoLabelsError(
            f"no document here has a field {format_value(by)} that could be predicted"
        )
    frequent = table.with_frequent_labels(min_per_label)
    if len(set(frequent.labels)) < 2 <= len(set(table.labels)):
        raise NoLabelsError(
            f"fewer than two labels have {min_per_label} documents: "
            "lower the minimum (--min-per-label)"
        )
    return frequent
