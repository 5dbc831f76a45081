"""Comparing an index with another one of the same documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.arguments import check_callbacks, check_count, check_type
from layerdex.choices import Fuse, TransformName, Weights
from layerdex.index.evaluations import LABEL, labelled_table, voting_options
from layerdex.index.measurements import (
    Measurements,
    check_no_ranking,
    read_judged,
    read_pair_texts,
)
from layerdex.index.reading import DocumentReader
from layerdex.layers import LayerSelection
from layerdex.records import LayerName, OnProgress, Source
from layerdex.search.dedup.overlap import Overlap, find_overlap
from layerdex.search.evaluation.comparison import (
    Comparison,
    SharedDocuments,
    compare,
    match_documents,
)
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.paired_labels import Side, evaluate_both
from layerdex.search.evaluation.retrieval import check_judged, evaluate_retrieval
from layerdex.search.evaluation.sentence_pairs import evaluate_pairs
from layerdex.search.evaluation.vote_scores import N_RESAMPLES
from layerdex.search.filters import Expressions, parse_where
from layerdex.storage.paired_snapshots import query_both
from layerdex.storage.snapshot import Snapshot

if TYPE_CHECKING:
    from layerdex.choices import Format


class Comparisons(Measurements):
    """The part of `Index` that says what another template, pooling or model changes.

    Each method measures this index and another on the same questions. A difference is the other's
    figure less this one's, with the 95 % interval of the paired bootstrap. Documents are matched
    by id; those in only one of the two, or of another text there, are left out and counted.
    """

    def compare(
        self,
        other: Measurements,
        *,
        layers: LayerSelection = "all",
        fuse: Fuse | str | None = None,
        k: int = 10,
        weights: Weights | str = Weights.DISTANCE,
        by: str = LABEL,
        where: Expressions = None,
        min_per_label: int = 1,
        folds: int | None = None,
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Comparison:
        """Compare how well neighbours predict labels, leaving one out or on the same folds.

        See `evaluate` for the options, and the class. Documents of another label are left out
        too. Raises `OptionError` where the two share no document or layer.
        """
        check_type(other, Measurements, what="an index is compared with an `Index`")
        conditions = parse_where(where)
        check_count("min_per_label", min_per_label)
        if folds is not None:
            check_count("folds", folds, least=2)
        check_callbacks(on_progress=on_progress)
        choices = voting_options(k, weights, n_resamples)
        spaces = [one.spaces_compared(layers, fuse) for one in (self, other)]
        for of_one in spaces:
            check_no_ranking(of_one)

        def question(first: Snapshot, second: Snapshot) -> Comparison:
            table = (labelled_table(one, conditions, by, min_per_label) for one in (first, second))
            matched = match_documents(*table, by_label=True)
            sides = (
                Side(first.layer, matched.first, spaces[0]),
                Side(second.layer, matched.second, spaces[1]),
            )
            found = evaluate_both(*sides, choices, n_folds=folds, on_progress=on_progress)
            return _compare(found, matched)

        return query_both(self.store, other.store, question)

    def compare_retrieval(
        self,
        other: Measurements,
        queries: Source,
        qrels: str | Path,
        *,
        layers: LayerSelection = "all",
        fuse: Fuse | str | None = None,
        where: Expressions = None,
        query_template: str | None = None,
        text_field: str = "text",
        id_field: str | None = None,
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Comparison:
        """Compare how well queries find relevant documents; see `evaluate_retrieval`.

        Only documents in both are searched. Each index puts its own query template around the
        queries, unless ``query_template`` is given for both.
        """
        check_type(other, Measurements, what="an index is compared with an `Index`")
        conditions = parse_where(where)
        check_callbacks(on_progress=on_progress)
        spaces = [one.spaces_compared(layers, fuse) for one in (self, other)]
        asked = read_judged(queries, qrels, text_field=text_field, id_field=id_field)
        vectors = [
            one.encode_queries(asked.texts, of_one, query_template)
            for one, of_one in zip((self, other), spaces, strict=True)
        ]

        def question(first: Snapshot, second: Snapshot) -> Comparison:
            all_tables = [one.document_table(conditions) for one in (first, second)]
            check_judged(asked, [one for table in all_tables for one in table.ids])
            matched = match_documents(*all_tables, by_label=False)
            shared = asked.restrict_to(matched.first.ids)
            # Those asked were encoded before it was known which of them have a document left.
            space = {one: i for i, one in enumerate(asked.ids)}
            kept = [space[one] for one in shared.ids]
            found = [
                evaluate_retrieval(
                    snapshot.layer,
                    table,
                    shared,
                    vectors={layer: one[kept] for layer, one in of_one.items()},
                    spaces=where_,
                    n_resamples=n_resamples,
                    on_progress=on_progress,
                )
                for snapshot, table, of_one, where_ in zip(
                    (first, second), (matched.first, matched.second), vectors, spaces, strict=True
                )
            ]
            return _compare(found, matched)

        return query_both(self.store, other.store, question)

    def compare_pairs(
        self,
        other: Measurements,
        pairs: Source,
        *,
        layers: LayerSelection = "all",
        fuse: Fuse | str | None = None,
        positive_from: float | None = None,
        format: Format | str = "auto",
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Comparison:
        """Compare how well similarity agrees with judged pairs; see `evaluate_pairs`.

        This asks no document: the counts of these are 0.
        """
        check_type(other, Measurements, what="an index is compared with an `Index`")
        check_callbacks(on_progress=on_progress)
        texts = read_pair_texts(pairs, positive_from=positive_from, format=format)
        found = []
        for one in (self, other):
            spaces = one.spaces_compared(layers, fuse)
            check_no_ranking(spaces)
            measured = evaluate_pairs(
                one.encode_pairs(texts, spaces),
                texts.judged,
                spaces=spaces,
                n_resamples=n_resamples,
                on_progress=on_progress,
            )
            found.append(measured)
        return compare(found[0], found[1], n_documents=0)

    def find_overlap(
        self,
        other: Measurements,
        *,
        threshold: float = 0.9,
        layers: LayerSelection | None = None,
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        where: Expressions = None,
        on_progress: OnProgress | None = None,
        on_found: Callable[[dict[LayerName, Overlap], DocumentReader], None] | None = None,
    ) -> dict[LayerName, Overlap]:
        """Say which of this index's documents the other has too, at each layer or these fused.

        ``where`` chooses among this index's documents; ``transform`` is this index's, for both.
        ``on_found`` gets the result and, for as long as it runs, a way to read this index's
        documents as they were when they were compared, whatever others write meanwhile. Raises
        `IndexMismatchError` where the vectors of the two cannot be compared.
        """
        from layerdex.indexer.models.compatibility import check_fingerprint

        check_type(other, Measurements, what="documents are looked for in an `Index`")
        check_callbacks(on_progress=on_progress, on_found=on_found)
        check_fingerprint(other.store.settings, self.store.settings)
        spaces, conditions = self.spaces(layers, fuse, transform), parse_where(where)
        for space in spaces:
            check_no_ranking([space])
            other.resolve_layers(space.layers)

        def question(first: Snapshot, second: Snapshot) -> dict[LayerName, Overlap]:
            table, others = first.document_table(conditions), second.document_table()
            found = {
                space.name: find_overlap(
                    first.layer,
                    table,
                    second.layer,
                    others,
                    space=space,
                    threshold=threshold,
                    on_progress=on_progress,
                )
                for space in spaces
            }
            if on_found is not None:
                on_found(found, DocumentReader(self.store, first))
            return found

        return query_both(self.store, other.store, question)


def _compare(found: Sequence[Evaluation], matched: SharedDocuments) -> Comparison:
    first, second = found
    return compare(
        first,
        second,
        n_documents=len(matched.first.ids),
        n_only=matched.n_only,
        n_changed=matched.n_changed,
    )
