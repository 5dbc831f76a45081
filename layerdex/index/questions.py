"""The questions that an index answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from layerdex.arguments import check_callbacks, to_choice
from layerdex.choices import Fuse, Keep, TransformName, Weights
from layerdex.index.comparisons import Comparisons
from layerdex.index.contents import check_ids
from layerdex.index.places import read_texts
from layerdex.index.reading import DocumentReader
from layerdex.index.supervision import Supervision
from layerdex.index.transforming import Transforming
from layerdex.index.unlabelled import Unlabelled
from layerdex.layers import LayerSelection
from layerdex.records import LayerName, OnProgress
from layerdex.search.answers import (
    answer_classify,
    answer_dedup,
    answer_like,
    answer_search,
)
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.knn.random_pairs import MinSimilarity, parse_min_similarity
from layerdex.search.results import Deduplication, Hit, Prediction
from layerdex.storage.snapshot import Snapshot


class Questions(Comparisons, Supervision, Unlabelled, Transforming):
    """The part of `Index` that asks at its layers."""

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        layer: LayerSelection | None = None,
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        where: Expressions = None,
        min_similarity: float | str | None = None,
        query_template: str | None = None,
    ) -> list[Hit]:
        """Return the k documents most similar to a text, the closest first.

        ``query_template`` is put around the text instead of the index's own for queries.

        With ``fuse`` several layers count as one, such as ``layer="3,4:0.5"`` (see `Fuse`).
        ``transform`` is one that the index keeps (see `fit_transforms`); here as in all questions,
        similarities are then of transformed vectors.
        ``min_similarity`` is from -1 to 1, or such as ``"p99"``: what 99 % of random pairs of the
        index's documents are below at each layer (see `search.random_pairs`).
        """
        found = self.search_many(
            [query],
            layers=self.choose_layer(layer) if fuse is None else layer,
            fuse=fuse,
            transform=transform,
            k=k,
            where=where,
            min_similarity=min_similarity,
            query_template=query_template,
        )
        return next(iter(found.values()))[0]

    def search_many(
        self,
        queries: Iterable[str],
        *,
        layers: LayerSelection | None = None,
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        k: int = 10,
        where: Expressions = None,
        min_similarity: float | str | None = None,
        query_template: str | None = None,
    ) -> dict[LayerName, list[list[Hit]]]:
        """Search for several texts at several layers, or at these fused, encoding each text once.

        The answer is by layer, or by the fusion's name, such as ``mean(3-4)``.
        """
        spaces, conditions = self.spaces(layers, fuse, transform), parse_where(where)
        minimum = _parse_min_similarity(min_similarity)
        vectors = self.encode_queries(read_texts(queries), spaces, query_template)
        return self.store.query(
            lambda snapshot: {
                space.name: answer_search(
                    snapshot,
                    vectors,
                    space=space,
                    k=k,
                    where=conditions,
                    minimum=minimum,
                )
                for space in spaces
            }
        )

    def search_like(
        self,
        document_id: str,
        *,
        layers: LayerSelection | None = None,
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        k: int = 10,
        where: Expressions = None,
        min_similarity: float | str | None = None,
    ) -> dict[LayerName, list[Hit]]:
        """Search by a document's stored vectors, at layers or these fused; itself is left out."""
        spaces, conditions = self.spaces(layers, fuse, transform), parse_where(where)
        minimum = _parse_min_similarity(min_similarity)
        check_ids([document_id])
        return self.store.query(
            lambda snapshot: answer_like(
                snapshot,
                document_id,
                spaces=spaces,
                k=k,
                where=conditions,
                minimum=minimum,
            )
        )

    def classify(
        self,
        texts: Iterable[str],
        *,
        k: int = 10,
        layer: LayerSelection | None = None,
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        weights: Weights | str = Weights.DISTANCE,
        where: Expressions = None,
        min_confidence: float = 0.0,
    ) -> list[Prediction]:
        """Label texts by the vote of their k nearest labelled documents."""
        space, conditions = self.space(layer, fuse, transform), parse_where(where)
        weights = to_choice(Weights, weights)
        texts = read_texts(texts)
        vectors = self.encode_at(texts, (space,))
        return self.store.query(
            lambda snapshot: answer_classify(
                snapshot,
                texts,
                vectors,
                space=space,
                k=k,
                weights=weights,
                where=conditions,
                min_confidence=min_confidence,
            )
        )

    def deduplicate(
        self,
        *,
        threshold: float = 0.9,
        layer: LayerSelection | None = None,
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        where: Expressions = None,
        keep: Keep | str = Keep.FIRST,
        on_progress: OnProgress | None = None,
        on_found: Callable[[Deduplication, DocumentReader], None] | None = None,
    ) -> Deduplication:
        """Find exact and near duplicates; nothing is removed from the index.

        ``on_found`` gets the result and, for as long as it runs, a way to read documents as they
        were when they were compared, whatever others write meanwhile.
        """
        space, conditions = self.space(layer, fuse, transform), parse_where(where)
        keep = to_choice(Keep, keep)
        check_callbacks(on_progress=on_progress, on_found=on_found)

        def question(snapshot: Snapshot) -> Deduplication:
            found = answer_dedup(
                snapshot,
                space=space,
                threshold=threshold,
                keep=keep,
                where=conditions,
                on_progress=on_progress,
            )
            if on_found is not None:
                on_found(found, DocumentReader(self.store, snapshot))
            return found

        return self.store.query(question)


def _parse_min_similarity(value: float | str | None) -> MinSimilarity | None:
    return None if value is None else parse_min_similarity(value)
