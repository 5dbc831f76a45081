"""Measuring layers by queries with judged documents, and by judged pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layerdex.arguments import check_callbacks, check_count, format_value, to_choice, to_path
from layerdex.choices import Fuse, TransformName
from layerdex.errors import OptionError
from layerdex.index.evaluations import Evaluations
from layerdex.layers import LayerSelection
from layerdex.records import OnProgress, Source, Vectors
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.retrieval import (
    JudgedQueries,
    check_judged,
    evaluate_retrieval,
    judged_queries,
)
from layerdex.search.evaluation.sentence_pairs import PairJudgements, evaluate_pairs
from layerdex.search.evaluation.vote_scores import N_RESAMPLES
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.knn.sampling import sample_documents
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.transforms.fit import N_FITTED, Fitter
from layerdex.storage.snapshot import Snapshot

if TYPE_CHECKING:
    from layerdex.choices import Format


@dataclass(frozen=True, slots=True)
class PairTexts:
    """Judged pairs, read: n texts on either side."""

    first: Sequence[str]
    second: Sequence[str]
    judged: PairJudgements


class Measurements(Evaluations):
    """The part of `Index` that measures its layers without labels of its documents."""

    def evaluate_retrieval(
        self,
        queries: Source,
        qrels: str | Path,
        *,
        layers: LayerSelection = "all",
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        where: Expressions = None,
        query_template: str | None = None,
        text_field: str = "text",
        id_field: str | None = None,
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Evaluation:
        """Measure how well queries find the documents judged relevant to them, at each layer.

        ``queries`` have an id and a text; ``qrels`` is a file of TREC's or BEIR's judgements of
        documents by id, relevant from grade 1 on. Queries without a relevant document are left
        out. With ``fuse`` the layers are measured fused as well. A ``transform`` is fitted on the
        documents searched, as by `fit_transforms`. Raises `SourceError` for ids that are not
        there, `RowError` for bad lines, `NoLabelsError` where nothing is left.
        """
        spaces, conditions = self.spaces_compared(layers, fuse), parse_where(where)
        how = to_choice(TransformName, transform)
        check_count("n_resamples", n_resamples, least=0)
        check_callbacks(on_progress=on_progress)
        asked = read_judged(queries, qrels, text_field=text_field, id_field=id_field)
        # A wrong id should show before a model is loaded.
        self.store.query(
            lambda snapshot: check_judged(asked, snapshot.document_table(conditions).ids)
        )
        vectors = self.encode_queries(asked.texts, spaces, query_template)

        def question(snapshot: Snapshot) -> Evaluation:
            table = snapshot.document_table(conditions)
            check_judged(asked, table.ids)
            fit = Fitter(snapshot.layer, how, spaces).fit
            return evaluate_retrieval(
                snapshot.layer,
                table,
                asked,
                vectors=vectors,
                spaces=[fit(space, table) for space in spaces],
                n_resamples=n_resamples,
                on_progress=on_progress,
            )

        return self.store.query(question)

    def evaluate_pairs(
        self,
        pairs: Source,
        *,
        layers: LayerSelection = "all",
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        positive_from: float | None = None,
        format: Format | str = "auto",
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Evaluation:
        """Measure how well similarity agrees with people's judgements of pairs, at each layer.

        ``pairs`` have ``sentence1``, ``sentence2``, and a ``score``, for Spearman's correlation,
        or a ``label`` of 0 or 1, for average precision and the best threshold.
        ``positive_from`` makes labels of scores: 1 from there on. Both texts are encoded as
        documents are. A ``transform`` is fitted on the index's documents, as by `fit_transforms`.
        Raises `SourceError`, `RowError` or `NoLabelsError`.
        """
        spaces, how = self.spaces_compared(layers, fuse), to_choice(TransformName, transform)
        check_no_ranking(spaces)
        check_count("n_resamples", n_resamples, least=0)
        check_callbacks(on_progress=on_progress)
        texts = read_pair_texts(pairs, positive_from=positive_from, format=format)
        return evaluate_pairs(
            self.encode_pairs(texts, spaces),
            texts.judged,
            spaces=self._fit_on_all(spaces, how),
            n_resamples=n_resamples,
            on_progress=on_progress,
        )

    def _fit_on_all(
        self, spaces: Sequence[VectorSpace], how: TransformName
    ) -> Sequence[VectorSpace]:
        def question(snapshot: Snapshot) -> Sequence[VectorSpace]:
            table = sample_documents(snapshot, n=N_FITTED)
            fit = Fitter(snapshot.layer, how, spaces).fit
            return [fit(space, table) for space in spaces]

        return spaces if how is TransformName.NONE else self.store.query(question)

    def encode_pairs(
        self, texts: PairTexts, spaces: Sequence[VectorSpace]
    ) -> tuple[dict[int, Vectors], dict[int, Vectors]]:
        """Return the vectors of both sides by layer, in one go so that repeats cost nothing."""
        both = self.encode_at([*texts.first, *texts.second], spaces)
        n = len(texts.first)
        return (
            {layer: one[:n] for layer, one in both.items()},
            {layer: one[n:] for layer, one in both.items()},
        )

    def spaces_compared(
        self, layers: LayerSelection, fuse: Fuse | str | None
    ) -> tuple[VectorSpace, ...]:
        """Return the layers to measure, and these fused (also their rankings) where asked for."""
        if fuse is None:
            return layer_spaces(self.resolve_layers(layers))
        [fused] = self.spaces(layers, fuse)
        return (*layer_spaces(fused.layers), fused)


def check_no_ranking(spaces: Sequence[VectorSpace]) -> None:
    """Raise `OptionError` for reciprocal rank fusion, which pairs of texts cannot have."""
    if any(space.is_ranking for space in spaces):
        raise OptionError("rrf fuses rankings, which only a search has: take mean or concat")


def read_judged(
    queries: Source, qrels: str | Path, *, text_field: str, id_field: str | None
) -> JudgedQueries:
    """Return the queries of a file that a file of judgements has relevant documents for."""
    from layerdex.indexer.readers.judgements import read_judgements, read_queries

    path = to_path(qrels, what="judgements are in a file")
    ids, texts = read_queries(queries, text_field=text_field, id_field=id_field)
    return judged_queries(ids, texts, read_judgements(path))


def read_pair_texts(
    pairs: Source, *, positive_from: float | None, format: Format | str
) -> PairTexts:
    """Return judged pairs; see `Measurements.evaluate_pairs`."""
    from layerdex.indexer.readers.pairs import read_pairs

    found = read_pairs(pairs, format=format)
    values, are_labels = np.array(found.values), found.are_labels
    if positive_from is not None:
        if are_labels:
            raise OptionError("the pairs have labels, 0 or 1: no score has to be cut")
        if not np.isfinite(positive_from):
            raise OptionError(
                f"a score to cut at is a finite number, not {format_value(positive_from)}"
            )
        values, are_labels = (values >= positive_from).astype(np.float64), True
    return PairTexts(found.first, found.second, PairJudgements(values, are_labels))
