"""What layers are measured by: labels to predict, judged queries, or judged pairs of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layerdex.arguments import (
    check_count,
    check_type,
    format_value,
    to_choice,
    to_list,
    to_path,
)
from layerdex.choices import Classifier, Format, RetrievalRules, Weights
from layerdex.errors import NoLabelsError, OptionError
from layerdex.index.source_options import resolve_test_fields
from layerdex.records import Source
from layerdex.search.evaluation.retrieval import JudgedQueries, judged_queries
from layerdex.search.evaluation.sentence_pairs import PairJudgements
from layerdex.search.evaluation.vote_scores import VotingOptions
from layerdex.search.labels.training_split import LabelledTexts

if TYPE_CHECKING:
    from layerdex.indexer.readers.dialect import Dialect
    from layerdex.indexer.readers.fields import Fields
    from layerdex.storage.store import Store

LABEL = "label"
_K = "k is a number or several"


@dataclass(frozen=True, slots=True)
class LabelTask:
    """Neighbours predict labels: of each document by all others, of folds, or of a test set.

    ``by`` is ``label`` or the metadata field whose values count as labels; a test set's are its
    labels. Labels with fewer than ``min_per_label`` documents are left out. ``k`` and ``weights``
    are one value or several; the first of each decides the best layer. ``test`` is a source read
    with ``fields`` (None: the names of text and label in the index's own sources), ``format`` and
    ``dialect``. Documents with the text of the held-out one never vote. With ``sample``, only that
    many documents are classified by all others, drawn label by label with ``seed``, and figures are
    estimates for all; one of all documents is no sample. Intervals are too narrow where labels have
    shares of it below two documents, or where hardly any document is wrong. With the ``classifier``
    head, the stored head predicts the labels of a test set instead, at its own layer; then the
    target, ``by``, ``min_per_label``, ``k`` and ``weights`` say nothing.

    A transform is fitted on the documents that may vote: for each fold on those of the other
    folds, and leaving one out, once, on all. No label enters the fit. The shrinkage of whitening is
    chosen on folds of the same documents by their labels; leaving one out, these are also the
    labels predicted, one number for all.

    Raises `OptionError` for values out of range, or for two of folds, a sample and a test set;
    evaluating raises `NoLabelsError` for fewer than two labels, `OptionError` for a sample without
    two documents of each label that has two.
    """

    by: str = LABEL
    min_per_label: int = 1
    folds: int | None = None
    k: int | Sequence[int] = 10
    weights: Weights | str | Sequence[Weights | str] = Weights.DISTANCE
    test: Source | None = None
    fields: Fields | None = None
    format: Format | str = Format.AUTO
    dialect: Dialect | None = None
    classifier: Classifier | str = Classifier.NEIGHBORS
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers and words."""
        classifier = to_choice(Classifier, self.classifier)
        object.__setattr__(self, "classifier", classifier)
        if classifier is Classifier.HEAD and self.test is None:
            raise OptionError(
                "a stored head was fitted on the documents: measure it on a test set (--test)"
            )
        check_type(self.by, str, what="labels are one field")
        check_count("min_per_label", self.min_per_label)
        if self.folds is not None:
            check_count("folds", self.folds, least=2)
            if self.test is not None:
                raise OptionError("give folds or a test set, not both")
        if self.sample is not None:
            check_count("sample", self.sample)
            if self.folds is not None or self.test is not None:
                raise OptionError("a sample is classified by all others: give no folds, no test")
        check_count("the seed", self.seed, least=0)
        if isinstance(self.k, Iterable):
            object.__setattr__(self, "k", tuple(to_list(self.k, what=_K)))
        if not isinstance(self.weights, str):
            weights = to_list(self.weights, what="weights are a word or several")
            object.__setattr__(self, "weights", tuple(weights))
        self.voting(0)

    def voting(self, n_resamples: int) -> VotingOptions:
        """Return the numbers of neighbours and weightings to try; raises `OptionError`."""
        ks = self.k if isinstance(self.k, tuple) else [self.k]
        names = [self.weights] if isinstance(self.weights, str) else self.weights
        return VotingOptions(
            ks=tuple(dict.fromkeys(check_count("k", k) for k in ks)),
            weights=tuple(dict.fromkeys(to_choice(Weights, name) for name in names)),
            n_resamples=n_resamples,
        )

    def read_test(self, store: Store) -> LabelledTexts:
        """Read the test set of the index of a store.

        Raises `SourceError`, `RowError` or `NoLabelsError` if it is empty.
        """
        from layerdex.indexer.readers.sources import read_labelled

        if self.test is None:
            raise OptionError("this task has no test set")
        fields = resolve_test_fields(store, by=self.by) if self.fields is None else self.fields
        texts, labels = read_labelled(
            self.test, format=self.format, fields=fields, dialect=self.dialect
        )
        if not texts:
            raise NoLabelsError("the test set has no documents")
        return LabelledTexts(texts, labels)


@dataclass(frozen=True, slots=True)
class RetrievalTask:
    """Queries find the documents judged relevant to them.

    ``queries`` have an id and a text; ``qrels`` is a file of TREC's or BEIR's judgements of
    documents by id, relevant from grade 1 on. Queries without a judgement are left out, and judged
    documents that are not searched count as not found. ``rules`` is ``beir`` (a query's own
    document, the one with its id, is no hit) or ``trec`` (it is). ``query_template`` is put around
    the queries in place of the index's own. A transform is fitted on the documents searched.

    Evaluating raises `SourceError` for judged queries that are not there and where no judged
    document is searched, `RowError` for bad lines, `NoLabelsError` where no document is relevant.
    """

    queries: Source
    qrels: str | Path
    query_template: str | None = None
    text_field: str = "text"
    id_field: str | None = None
    rules: RetrievalRules | str = RetrievalRules.BEIR
    dialect: Dialect | None = None

    def read(self) -> JudgedQueries:
        """Read the queries that have a judgement."""
        from layerdex.indexer.readers.judgements import read_judged_queries, read_judgements

        rules = to_choice(RetrievalRules, self.rules)
        path = to_path(self.qrels, what="judgements are in a file")
        ids, texts = read_judged_queries(
            self.queries,
            text_field=self.text_field,
            id_field=self.id_field,
            dialect=self.dialect,
        )
        return judged_queries(ids, texts, read_judgements(path), rules=rules)


@dataclass(frozen=True, slots=True)
class PairTexts:
    """Judged pairs, n texts on either side; ``n_left_out`` others lack a text or a judgement."""

    first: Sequence[str]
    second: Sequence[str]
    judgements: PairJudgements
    n_left_out: int = 0


@dataclass(frozen=True, slots=True)
class PairTask:
    """Similarity agrees with people's judgements of pairs of texts.

    ``pairs`` have ``sentence1``, ``sentence2``, and a ``score``, for Spearman's correlation, or a
    ``label`` of 0 or 1, for average precision and the best threshold; the ``_field`` parameters
    give other names. ``positive_from`` turns scores into labels: 1 from there on. Both texts are
    encoded as documents are. A pair whose text or judgement is null is left out. A
    transform is fitted on the index's documents.

    Evaluating raises `SourceError`, `RowError` or `NoLabelsError`.
    """

    pairs: Source
    positive_from: float | None = None
    format: Format | str = Format.AUTO
    dialect: Dialect | None = None
    sentence1_field: str = "sentence1"
    sentence2_field: str = "sentence2"
    score_field: str | None = None
    label_field: str | None = None

    def __post_init__(self) -> None:
        """Check that one field at most is named as the judgement."""
        if self.score_field is not None and self.label_field is not None:
            raise OptionError("name the field of the score or of the label, not both")

    def read(self) -> PairTexts:
        """Read the pairs."""
        from layerdex.indexer.readers.pair_fields import PairFields
        from layerdex.indexer.readers.pairs import read_pairs

        fields = PairFields(
            text=self.sentence1_field,
            sentence2=self.sentence2_field,
            score=self.score_field,
            pair_label=self.label_field,
        )
        pairs = read_pairs(self.pairs, format=self.format, dialect=self.dialect, fields=fields)
        values, are_labels = np.array(pairs.values), pairs.are_labels
        if self.positive_from is not None:
            if are_labels:
                raise OptionError("the pairs have labels, 0 or 1: positive_from needs scores")
            check_type(self.positive_from, (int, float), what="positive_from is a score")
            if not np.isfinite(self.positive_from):
                value = format_value(self.positive_from)
                raise OptionError(f"positive_from must be a finite number, got {value}")
            values, are_labels = (values >= self.positive_from).astype(np.float64), True
        judgements = PairJudgements(values, are_labels)
        return PairTexts(pairs.first, pairs.second, judgements, pairs.n_left_out)


Task = LabelTask | RetrievalTask | PairTask
