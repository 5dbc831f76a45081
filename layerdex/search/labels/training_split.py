"""`TrainingSplit`: which documents train an adapter, which are held out, and the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Weights
from layerdex.errors import NoLabelsError
from layerdex.records import Vectors
from layerdex.search.evaluation.classification import evaluate_on_test
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.folds import assign_folds, two_labels
from layerdex.search.evaluation.metrics import Codes
from layerdex.search.evaluation.vote_scores import VotingOptions
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.search.knn.vector_space import GetLayer, layer_spaces
from layerdex.search.knn.voting import vote
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.storage.snapshot import DocumentTable
from layerdex.storage.vectors.layer_vectors import VectorSource

K = 10
"""Neighbours that vote, weighted by distance."""


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Texts and their labels, one entry each."""

    texts: list[str]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class TrainingSplit:
    """Labelled documents, n of them, divided for training; ``codes`` (n,) are their labels.

    ``training`` and ``held_out`` are positions in ``table``, ascending. Training never sees
    ``test``, nor the ``n_left_out`` documents with a text of it.
    """

    table: DocumentTable
    texts: list[str]
    codes: Codes
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    test: LabelledTexts | None

    @property
    def n_left_out(self) -> int:
        """The number of documents with a text of the test set."""
        return len(self.texts) - len(self.training) - len(self.held_out)

    def judge(self, training: Vectors, held_out: Vectors) -> float:
        """Return the accuracy of held-out vectors, classified by their training neighbours."""
        source = InMemoryVectors(np.arange(len(training)), training)
        neighbors = find_neighbors(source, held_out, K)
        labels = self.codes[self.training][neighbors.rows]
        predicted = vote(labels, neighbors.similarities, Weights.DISTANCE).labels
        return float(np.mean(predicted == self.codes[self.held_out]))

    def label_means(self, layer: VectorSource) -> Vectors:
        """Return the unit mean of each label's training texts, (n_labels, width) float32."""
        sums = np.zeros((int(self.codes.max()) + 1, layer.width), dtype=np.float32)
        np.add.at(sums, self.codes[self.training], layer.gather(self.table.rows[self.training]))
        means: Vectors = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        return means

    def sources(self, vectors: Mapping[int, Vectors]) -> GetLayer:
        """Return a source for each layer of the documents' vectors, (n, width)."""
        return lambda layer: InMemoryVectors(self.table.rows, vectors[layer])

    def evaluate(
        self, get_layer: GetLayer, vectors: Mapping[int, Vectors], layers: Sequence[int]
    ) -> Evaluation:
        """Evaluate each layer on the test set, or without one on the held-out documents.

        ``vectors`` are those of the test set by layer, (n_test, width).
        """
        table, labels = self.table, [] if self.test is None else self.test.labels
        if self.test is None:
            rows = table.rows[self.held_out]
            vectors = {layer: get_layer(layer).gather(rows) for layer in layers}
            labels = [str(table.labels[i]) for i in self.held_out]
            table = table.take(self.training.tolist())
        return evaluate_on_test(
            get_layer,
            table,
            VotingOptions(ks=(K,)),
            vectors=vectors,
            test_labels=labels,
            spaces=layer_spaces(layers),
        )


def make_training_split(
    table: DocumentTable, texts: list[str], *, n_folds: int, test: LabelledTexts | None
) -> TrainingSplit:
    """Divide labelled documents; one of ``n_folds`` folds (see `assign_folds`) is held out.

    Documents with a text of the test set are neither trained on nor held out. Raises
    `NoLabelsError` if fewer than two labels remain to train on or no document is held out, and
    `OptionError` as `assign_folds` does.
    """
    _, codes = two_labels(table)
    is_held_out = assign_folds(codes, table.content_groups, n_folds) == 0
    test_texts = frozenset(() if test is None else test.texts)
    is_tested = np.array([text in test_texts for text in texts])
    training = np.flatnonzero(~is_held_out & ~is_tested)
    held_out = np.flatnonzero(is_held_out & ~is_tested)
    if len(np.unique(codes[training])) < 2 or not len(held_out):
        raise NoLabelsError(
            f"{len(training)} documents remain to train on and {len(held_out)} are held out: "
            "training needs at least two labels, and a held-out document"
        )
    return TrainingSplit(table, texts, codes, training, held_out, test)
