"""What training may learn from, what it is judged on, and what it is measured on afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Weights
from layerdex.errors import NoLabelsError
from layerdex.records import Vectors
from layerdex.search.evaluation.classification import evaluate_on_test, split, two_labels
from layerdex.search.evaluation.metrics import Codes
from layerdex.search.evaluation.results import Evaluation, VotingOptions
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.search.knn.vector_space import GetLayer, layer_spaces
from layerdex.search.knn.voting import vote
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.storage.snapshot import DocumentTable
from layerdex.storage.vectors.layer_vectors import VectorSource

K = 10
"""Neighbours that vote, by distance."""


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Labelled texts that training never sees; one entry each."""

    texts: list[str]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class TrainingSplit:
    """Labelled documents, n of them: ``codes`` (n,) are their labels.

    ``training`` and ``held_out`` are spaces among them, ascending; ``n_left_out`` documents are
    in neither.
    """

    table: DocumentTable
    texts: list[str]
    codes: Codes
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    exam: LabelledTexts | None

    @property
    def n_left_out(self) -> int:
        """How many documents have a text of the test set."""
        return len(self.texts) - len(self.training) - len(self.held_out)

    def judge(self, training: Vectors, held_out: Vectors) -> float:
        """Return the accuracy of the vote on held-out vectors by the training ones."""
        source = InMemoryVectors(np.arange(len(training)), training)
        found = find_neighbors(source, held_out, K)
        labels = self.codes[self.training][found.rows]
        predicted = vote(labels, found.similarities, Weights.DISTANCE).labels
        return float(np.mean(predicted == self.codes[self.held_out]))

    def label_means(self, layer: VectorSource) -> Vectors:
        """Return the unit mean of each label's training texts, (n_labels, width) float32."""
        sums = np.zeros((int(self.codes.max()) + 1, layer.width), dtype=np.float32)
        np.add.at(sums, self.codes[self.training], layer.gather(self.table.rows[self.training]))
        means: Vectors = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        return means

    def sources(self, vectors: Mapping[int, Vectors]) -> GetLayer:
        """Return the documents' vectors, (n, width) by layer, as an index would give them."""
        return lambda layer: InMemoryVectors(self.table.rows, vectors[layer])

    def measure(
        self, get_layer: GetLayer, vectors: Mapping[int, Vectors], layers: Sequence[int]
    ) -> Evaluation:
        """Measure the vote at each layer: on the test set, or on the held-out documents.

        ``vectors`` (n_test, width) by layer are the test set's, and unused without one.
        """
        table, labels = self.table, [] if self.exam is None else self.exam.labels
        if self.exam is None:
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
    table: DocumentTable, texts: list[str], *, n_folds: int, exam: LabelledTexts | None
) -> TrainingSplit:
    """Divide labelled documents: one of ``n_folds`` folds (see `evaluate_on_folds`) is held out.

    Documents with a text of the test set are neither trained on nor held out. Raises
    `NoLabelsError` where fewer than two labels remain to train on, `OptionError` for folds that
    cannot be made.
    """
    _, codes = two_labels(table)
    is_held_out = split(codes, table.content_groups, n_folds) == 0
    asked = frozenset(() if exam is None else exam.texts)
    is_free = np.array([text not in asked for text in texts])
    training = np.flatnonzero(~is_held_out & is_free)
    held_out = np.flatnonzero(is_held_out & is_free)
    if len(np.unique(codes[training])) < 2 or not len(held_out):
        raise NoLabelsError(
            f"{len(training)} documents remain to train on and {len(held_out)} to stop by: "
            "training needs two labels, and a fold that is held out"
        )
    return TrainingSplit(table, texts, codes, training, held_out, exam)
