"""The head of an index: stored after a probe, loaded to classify."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_between, check_type, format_value
from layerdex.errors import IndexMismatchError, NoLabelsError, OptionError
from layerdex.index.open_index import OpenIndex, QueryVectors
from layerdex.index.tasks import LABEL, LabelTask
from layerdex.search.evaluation.evaluation import Classification, Evaluation, Method
from layerdex.search.evaluation.vote_scores import score_classifier
from layerdex.search.knn.voting import encode_labels
from layerdex.search.labels.head import Head
from layerdex.search.labels.probe import Probe
from layerdex.search.results import Prediction
from layerdex.search.targets import SearchTarget
from layerdex.search.vectors.similarity import round_similarity
from layerdex.storage.artifact_changes import save_artifact
from layerdex.storage.artifacts import (
    HEAD,
    find_vanished_labels,
    load_artifact,
    read_artifact_record,
)
from layerdex.storage.catalog.changes import NEXT_ROW
from layerdex.storage.snapshot import Snapshot

_N_LIKELIEST = 3


def save_head(index: OpenIndex, probe: Probe, *, lock_timeout_s: float) -> None:
    """Store a probe's head; see `Index.save_head`."""
    check_type(probe, Probe, what="a head comes from a `Probe`")
    head, best, settings = probe.head, probe.best, index.store.settings
    index.resolve_layers(head.layer)  # a layer of another index may be missing here
    if head.weights.shape[1] != settings.width:
        raise OptionError(
            f"the head is for vectors of width {head.weights.shape[1]}, this index has "
            f"{settings.width}: probe this index"
        )
    if probe.fingerprint != settings.fingerprint:
        raise IndexMismatchError("the head is for vectors of another model: probe this index")
    record = {
        "fingerprint": settings.fingerprint,
        "layer": head.layer,
        "labels": head.label_names,
        "label_field": probe.label_field,
        "temperature": head.temperature,
        "c": best.c,
        "n": probe.n,
        "n_folds": probe.n_folds,
        "accuracy": best.accuracy,
        "macro_f1": best.macro_f1,
    }
    tensors = {"weights": head.weights, "biases": head.biases}
    with index.store.write(lock_timeout_s=lock_timeout_s) as writer:
        with index.store.read() as snapshot:
            record["n_in_index"] = snapshot.n_documents
            record["next_row"] = snapshot.setting(NEXT_ROW)
        save_artifact(writer, HEAD, tensors, record)


def load_head(index: OpenIndex) -> Head:
    """Return the stored head.

    Raises `OptionError` where there is none, `IndexMismatchError` for one that does not fit the
    index, `DamagedIndexError` for a changed file.
    """
    loaded = index.store.query(lambda snapshot: load_artifact(snapshot, HEAD))
    if loaded is None:
        raise OptionError("this index has no head: run 'layerdex probe INDEX --save' first")
    tensors, record = loaded
    settings = index.store.settings
    shape = (len(record["labels"]), settings.width)
    shapes = {name: (tensor.shape, tensor.dtype.name) for name, tensor in tensors.items()}
    fits = shapes == {"weights": (shape, "float32"), "biases": (shape[:1], "float32")}
    same_model = record["fingerprint"] == settings.fingerprint
    field = record["label_field"]
    if not (fits and same_model and record["layer"] in index.store.layers):
        by = "" if field == LABEL else f" --by {quote(field)}"
        raise IndexMismatchError(
            f"the head of {format_value(field)} was made for vectors of another model or layer: "
            f"run 'layerdex probe INDEX{by} --save' again"
        )
    return Head(
        layer=record["layer"],
        label_names=tuple(record["labels"]),
        temperature=record["temperature"],
        label_field=field,
        **tensors,
    )


def classify_with_head(
    index: OpenIndex, texts: str | Iterable[str], *, min_confidence: float
) -> list[Prediction]:
    """Label texts by the stored head; see `Index.classify_with_head`."""
    check_between("min_confidence", min_confidence, 0, 1)
    head, vectors = load_head(index), QueryVectors(index, texts)
    probabilities = head.probabilities(vectors.encode([head.layer])[head.layer])
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :_N_LIKELIEST]
    return [
        _prediction(head, text, of_text, labels, min_confidence)
        for text, of_text, labels in zip(vectors.texts, probabilities, ranked, strict=True)
    ]


def _prediction(
    head: Head,
    text: str,
    probabilities: NDArray[np.float64],
    ranked: NDArray[np.int64],
    min_confidence: float,
) -> Prediction:
    likeliest = tuple(
        (head.label_names[label], round_similarity(probabilities[label])) for label in ranked
    )
    label, confidence = likeliest[0]
    return Prediction(
        text=text,
        label=label if probabilities[ranked[0]] >= min_confidence else None,
        confidence=confidence,
        target=SearchTarget((head.layer,)),
        neighbors=(),
        label_field=head.label_field,
        likeliest=likeliest,
    )


def evaluate_head(index: OpenIndex, task: LabelTask, *, n_resamples: int) -> Evaluation:
    """Measure the stored head on the test set of a task, at the head's layer.

    Raises as `load_head` does, and `NoLabelsError` if no label of the test set is one of the
    head's.
    """
    test, head = task.read_test(index.store), load_head(index)
    if {*head.label_names}.isdisjoint(test.labels):
        some = ", ".join(head.label_names[:3])
        raise NoLabelsError(
            "no label of the test set is one of the head's: the test set has "
            f"{format_value(test.labels[0])}, ..., the head has {some}, ..."
        )
    names, true = encode_labels([*test.labels, *head.label_names])
    code_of = {name: code for code, name in enumerate(names)}
    vectors = QueryVectors(index, test.texts).encode([head.layer])[head.layer]
    best = head.probabilities(vectors).argmax(axis=1)
    predicted = np.array([code_of[name] for name in head.label_names], dtype=np.int64)[best]
    return score_classifier(
        SearchTarget((head.layer,)),
        predicted,
        Classification(Method.TEST, names, true[: len(test.labels)], label_field=head.label_field),
        n_resamples=n_resamples,
    )


def labels_without_documents(index: OpenIndex) -> tuple[str, ...]:
    """Return the labels of the stored head that no document has any more; none without a head."""

    def question(snapshot: Snapshot) -> tuple[str, ...]:
        record = read_artifact_record(snapshot, HEAD)
        return () if record is None else find_vanished_labels(snapshot, record)

    return index.store.query(question)
