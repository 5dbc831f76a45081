"""Comparing an index with another one of the same documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.arguments import check_callbacks, check_count, check_kind
from layerdex.index.evaluations import LABEL, labelled_facts, to_choices
from layerdex.index.measurements import (
    Measurements,
    check_no_ranking,
    read_judged,
    read_pair_texts,
)
from layerdex.index.reading import ReadDocuments
from layerdex.layers import LayerSelection
from layerdex.records import LayerName, OnProgress, Source, Weights
from layerdex.search.comparison import Matched, Side, match, measure_labels
from layerdex.search.evaluation import N_RESAMPLES
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.fusion import Fuse, layers_of, name_of
from layerdex.search.leakage import Leakage, find_leaks
from layerdex.search.measurement import Comparison, Measurement, compare
from layerdex.search.pairs import evaluate_pairs
from layerdex.search.retrieval import among, check_judged, evaluate_retrieval
from layerdex.search.transforms import TransformName
from layerdex.storage.both import ask_both
from layerdex.storage.snapshot import Snapshot

if TYPE_CHECKING:
    from layerdex.indexer.corpus import Format


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
        check_kind(other, Measurements, what="an index is compared with an `Index`")
        conditions = parse_where(where)
        check_count("min_per_label", min_per_label)
        if folds is not None:
            check_count("folds", folds, least=2)
        check_callbacks(on_progress=on_progress)
        choices = to_choices(k, weights, n_resamples)
        places = [one.places_compared(layers, fuse) for one in (self, other)]
        for of_one in places:
            check_no_ranking(of_one)

        def question(first: Snapshot, second: Snapshot) -> Comparison:
            facts = (labelled_facts(one, conditions, by, min_per_label) for one in (first, second))
            matched = match(*facts, by_label=True)
            sides = (
                Side(first.layer, matched.first, places[0]),
                Side(second.layer, matched.second, places[1]),
            )
            found = measure_labels(*sides, choices, n_folds=folds, on_progress=on_progress)
            return _compare(found, matched)

        return ask_both(self.store, other.store, question)

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
        check_kind(other, Measurements, what="an index is compared with an `Index`")
        conditions = parse_where(where)
        check_callbacks(on_progress=on_progress)
        places = [one.places_compared(layers, fuse) for one in (self, other)]
        asked = read_judged(queries, qrels, text_field=text_field, id_field=id_field)
        vectors = [
            one.encode_queries(asked.texts, of_one, query_template)
            for one, of_one in zip((self, other), places, strict=True)
        ]

        def question(first: Snapshot, second: Snapshot) -> Comparison:
            all_facts = [one.facts(conditions) for one in (first, second)]
            check_judged(asked, [one for facts in all_facts for one in facts.ids])
            matched = match(*all_facts, by_label=False)
            shared = among(asked, matched.first.ids)
            # Those asked were encoded before it was known which of them have a document left.
            place = {one: i for i, one in enumerate(asked.ids)}
            kept = [place[one] for one in shared.ids]
            found = [
                evaluate_retrieval(
                    snapshot.layer,
                    facts,
                    shared,
                    vectors={layer: one[kept] for layer, one in of_one.items()},
                    places=where_,
                    n_resamples=n_resamples,
                    on_progress=on_progress,
                )
                for snapshot, facts, of_one, where_ in zip(
                    (first, second), (matched.first, matched.second), vectors, places, strict=True
                )
            ]
            return _compare(found, matched)

        return ask_both(self.store, other.store, question)

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
        check_kind(other, Measurements, what="an index is compared with an `Index`")
        check_callbacks(on_progress=on_progress)
        texts = read_pair_texts(pairs, positive_from=positive_from, format=format)
        found = []
        for one in (self, other):
            places = one.places_compared(layers, fuse)
            check_no_ranking(places)
            measured = evaluate_pairs(
                one.encode_pairs(texts, places),
                texts.judged,
                places=places,
                n_resamples=n_resamples,
                on_progress=on_progress,
            )
            found.append(measured)
        return compare(found[0], found[1], n_documents=0, n_only=(0, 0), n_changed=0)

    def find_leaks(
        self,
        other: Measurements,
        *,
        threshold: float = 0.9,
        layers: LayerSelection | None = None,
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        where: Expressions = None,
        on_progress: OnProgress | None = None,
        on_found: Callable[[dict[LayerName, Leakage], ReadDocuments], None] | None = None,
    ) -> dict[LayerName, Leakage]:
        """Say which of this index's documents the other has too, at each layer or these fused.

        ``where`` chooses among this index's documents; ``transform`` is this index's, for both.
        ``on_found`` gets the result and, for as long as it runs, a way to read this index's
        documents as they were when they were compared, whatever others write meanwhile. Raises
        `IndexMismatchError` where the vectors of the two cannot be compared.
        """
        from layerdex.indexer.agreement import check_fingerprint

        check_kind(other, Measurements, what="documents are looked for in an `Index`")
        check_callbacks(on_progress=on_progress, on_found=on_found)
        check_fingerprint(other.store.settings, self.store.settings)
        places, conditions = self.places(layers, fuse, transform), parse_where(where)
        for place in places:
            check_no_ranking([place])
            other.resolve_layers(layers_of(place))

        def question(first: Snapshot, second: Snapshot) -> dict[LayerName, Leakage]:
            facts, others = first.facts(conditions), second.facts()
            found = {
                name_of(place): find_leaks(
                    first.layer,
                    facts,
                    second.layer,
                    others,
                    place=place,
                    threshold=threshold,
                    on_progress=on_progress,
                )
                for place in places
            }
            if on_found is not None:
                on_found(found, ReadDocuments(self.store, first))
            return found

        return ask_both(self.store, other.store, question)


def _compare(found: Sequence[Measurement], matched: Matched) -> Comparison:
    first, second = found
    return compare(
        first,
        second,
        n_documents=len(matched.first.ids),
        n_only=matched.n_only,
        n_changed=matched.n_changed,
    )
