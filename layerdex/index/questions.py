"""The questions that an index answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from layerdex.arguments import check_callbacks, check_count, to_choice, to_list
from layerdex.errors import NoLabelsError, OptionError
from layerdex.index.contents import check_ids
from layerdex.index.upkeep import Upkeep
from layerdex.layers import LayerSelection
from layerdex.records import Document, Keep, OnProgress, Source, Vectors, Weights
from layerdex.search.answers import (
    answer_classify,
    answer_dedup,
    answer_documents,
    answer_like,
    answer_search,
)
from layerdex.search.evaluate import Evaluation, evaluate_leave_one_out, evaluate_on_test
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.results import Deduplication, Hit, Prediction
from layerdex.storage.codecs import as_kept
from layerdex.storage.snapshot import Facts, Snapshot

if TYPE_CHECKING:
    from layerdex.indexer.corpus import Fields, Format


ReadDocuments = Callable[[Sequence[str]], Iterator[Document]]
"""Yields the documents with the given ids, one by one, in their order."""


class Questions(Upkeep):
    """The part of `Index` that asks at its layers."""

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        layer: int | None = None,
        where: Expressions = None,
        min_similarity: float | None = None,
    ) -> list[Hit]:
        """Return the k documents most similar to a text, the closest first."""
        found = self.search_many(
            [query],
            layers=self.choose_layer(layer),
            k=k,
            where=where,
            min_similarity=min_similarity,
        )
        return next(iter(found.values()))[0]

    def search_many(
        self,
        queries: Iterable[str],
        *,
        layers: LayerSelection,
        k: int = 10,
        where: Expressions = None,
        min_similarity: float | None = None,
    ) -> dict[int, list[list[Hit]]]:
        """Search for several texts at several layers, encoding each text once."""
        chosen, conditions = self.resolve_layers(layers), parse_where(where)
        vectors = self._encode(_read_texts(queries), chosen)
        return self.store.ask(
            lambda snapshot: {
                layer: answer_search(
                    snapshot,
                    vectors[layer],
                    layer=layer,
                    k=k,
                    where=conditions,
                    min_similarity=min_similarity,
                )
                for layer in chosen
            }
        )

    def search_like(
        self,
        document_id: str,
        *,
        layers: LayerSelection | None = None,
        k: int = 10,
        where: Expressions = None,
        min_similarity: float | None = None,
    ) -> dict[int, list[Hit]]:
        """Search by a document's stored vectors, at several layers; itself is left out."""
        chosen = (self.choose_layer(None),) if layers is None else self.resolve_layers(layers)
        conditions = parse_where(where)
        check_ids([document_id])
        return self.store.ask(
            lambda snapshot: answer_like(
                snapshot,
                document_id,
                layers=chosen,
                k=k,
                where=conditions,
                min_similarity=min_similarity,
            )
        )

    def classify(
        self,
        texts: Iterable[str],
        *,
        k: int = 10,
        layer: int | None = None,
        weights: Weights | str = Weights.DISTANCE,
        where: Expressions = None,
        min_confidence: float = 0.0,
    ) -> list[Prediction]:
        """Label texts by the vote of their k nearest labelled documents."""
        chosen, conditions = self.choose_layer(layer), parse_where(where)
        weights = to_choice(Weights, weights)
        texts = _read_texts(texts)
        vectors = self._encode(texts, (chosen,))[chosen]
        return self.store.ask(
            lambda snapshot: answer_classify(
                snapshot,
                texts,
                vectors,
                layer=chosen,
                k=k,
                weights=weights,
                where=conditions,
                min_confidence=min_confidence,
            )
        )

    def evaluate(
        self,
        *,
        layers: LayerSelection = "all",
        k: int | Sequence[int] = 10,
        weights: Weights | str = Weights.DISTANCE,
        where: Expressions = None,
        min_per_label: int = 1,
        test: Source | None = None,
        fields: Fields | None = None,
        format: Format | str = "auto",
        on_progress: OnProgress | None = None,
    ) -> Evaluation:
        """Measure neighbour classification at each layer, leaving one out or on a test set.

        Labels with fewer than ``min_per_label`` documents are left out.
        """
        chosen, conditions = self.resolve_layers(layers), parse_where(where)
        check_count("min_per_label", min_per_label)
        check_callbacks(on_progress=on_progress)
        given = to_list(k, what="k is a number or several") if isinstance(k, Iterable) else [k]
        options: dict[str, Any] = {
            "ks": list(dict.fromkeys(check_count("k", one) for one in given)),
            "weights": to_choice(Weights, weights),
            "on_progress": on_progress,
        }

        def labelled(snapshot: Snapshot) -> Facts:
            facts = snapshot.facts(conditions, labelled=True)
            frequent = facts.with_frequent_labels(min_per_label)
            if len(set(frequent.labels)) < 2 <= len(set(facts.labels)):
                raise NoLabelsError(
                    f"fewer than two labels have {min_per_label} documents: "
                    "lower the minimum (--min-per-label)"
                )
            return frequent

        if test is None:
            return self.store.ask(
                lambda snapshot: evaluate_leave_one_out(
                    snapshot.layer,
                    labelled(snapshot),
                    layers=chosen,
                    **options,
                )
            )
        from layerdex.indexer.corpus.sources import read_labelled

        texts, labels = read_labelled(test, format=format, fields=fields)
        vectors = self._encode(texts, chosen)
        return self.store.ask(
            lambda snapshot: evaluate_on_test(
                snapshot.layer,
                labelled(snapshot),
                vectors=vectors,
                test_labels=labels,
                **options,
            )
        )

    def deduplicate(
        self,
        *,
        threshold: float = 0.9,
        layer: int | None = None,
        where: Expressions = None,
        keep: Keep | str = Keep.FIRST,
        on_progress: OnProgress | None = None,
        on_found: Callable[[Deduplication, ReadDocuments], None] | None = None,
    ) -> Deduplication:
        """Find exact and near duplicates; nothing is removed from the index.

        ``on_found`` gets the result and, for as long as it runs, a way to read documents as they
        were when they were compared, whatever others write meanwhile.
        """
        chosen, conditions = self.choose_layer(layer), parse_where(where)
        keep = to_choice(Keep, keep)
        check_callbacks(on_progress=on_progress, on_found=on_found)

        def question(snapshot: Snapshot) -> Deduplication:
            found = answer_dedup(
                snapshot,
                layer=chosen,
                threshold=threshold,
                keep=keep,
                where=conditions,
                on_progress=on_progress,
            )
            if on_found is not None:
                on_found(found, lambda ids: answer_documents(snapshot, ids))
            return found

        return self.store.ask(question)

    def _encode(self, texts: Sequence[str], layers: tuple[int, ...]) -> dict[int, Vectors]:
        vectors = self.encoder.encode(texts, layers).vectors
        codec = self.store.codec
        return {layer: as_kept(one, codec) for layer, one in zip(layers, vectors, strict=True)}


def _read_texts(texts: Iterable[str]) -> list[str]:
    """Return questions as a list, held to the rules for documents' texts."""
    from layerdex.indexer.corpus.values import BadValueError, text_value

    if isinstance(texts, str):
        raise OptionError("give a list of texts, not one string")
    texts = to_list(texts, what="give a list of texts")
    for text in texts:
        try:
            text_value(text, field="a text asked about")
        except BadValueError as error:
            raise OptionError(str(error)) from error
    return texts
