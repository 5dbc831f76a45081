"""What labels are worth: which of them look wrong, and what can be learned from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from layerdex.arguments import check_between, check_callbacks, check_count, check_type
from layerdex.choices import TransformName
from layerdex.errors import IndexMismatchError, OptionError
from layerdex.index.evaluations import LABEL, Evaluations, labelled_table
from layerdex.index.places import read_texts
from layerdex.layers import LayerSelection
from layerdex.records import OnProgress
from layerdex.search.evaluation.vote_scores import N_RESAMPLES, VotingOptions
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.knn.vector_space import layer_spaces
from layerdex.search.labels.head import Head
from layerdex.search.labels.label_issues import LabelIssues, find_label_issues
from layerdex.search.labels.label_scores import N_NEIGHBORS
from layerdex.search.labels.probe import Probe, probe_layers
from layerdex.search.results import Prediction
from layerdex.search.vectors.similarity import round_similarity
from layerdex.storage.artifacts import HEAD, load_artifact, save_artifact


class Supervision(Evaluations):
    """The part of `Index` that judges labels, and learns from them."""

    def suspects(
        self,
        *,
        layers: LayerSelection = "all",
        transform: TransformName | str = TransformName.NONE,
        k: int = N_NEIGHBORS,
        by: str = LABEL,
        where: Expressions = None,
        min_per_label: int = 1,
        limit: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> LabelIssues:
        """Find documents whose label their neighbours at most of the layers are against.

        ``by`` and ``min_per_label`` are as in `evaluate`; ``limit`` keeps the first. Neighbours
        are shown at the default layer, or the deepest of ``layers`` where that is not among them.
        ``transform`` is one that the index keeps.
        See `search.suspects` for the score. Raises `NoLabelsError` for fewer than two labels.
        """
        chosen, conditions = self.resolve_layers(layers), parse_where(where)
        spaces = self.transformed(layer_spaces(chosen), transform)
        check_count("k", k)
        check_type(by, str, what="judge by one field")
        check_count("min_per_label", min_per_label)
        if limit is not None:
            check_count("limit", limit)
        check_callbacks(on_progress=on_progress)
        default = self.choose_layer(None)
        return self.store.query(
            lambda snapshot: find_label_issues(
                snapshot,
                labelled_table(snapshot, conditions, by, min_per_label),
                spaces=spaces,
                listed=chosen.index(default) if default in chosen else len(chosen) - 1,
                k=k,
                limit=limit,
                label_field=by,
                on_progress=on_progress,
            )
        )

    def probe(
        self,
        *,
        layers: LayerSelection = "all",
        k: int = 10,
        folds: int = 3,
        by: str = LABEL,
        where: Expressions = None,
        min_per_label: int = 1,
        n_resamples: int = N_RESAMPLES,
        on_progress: OnProgress | None = None,
    ) -> Probe:
        """Cross-validate a linear classifier at each layer, beside k neighbours on the same folds.

        ``by`` and ``min_per_label`` are as in `evaluate`. Nothing is stored (see `save_head`).
        Raises `NoLabelsError` for fewer than two labels.
        """
        chosen, conditions = self.resolve_layers(layers), parse_where(where)
        check_type(by, str, what="predict one field")
        check_count("min_per_label", min_per_label)
        check_count("folds", folds, least=2)
        check_callbacks(on_progress=on_progress)
        options = VotingOptions((check_count("k", k),), n_resamples=n_resamples)
        probe = self.store.query(
            lambda snapshot: probe_layers(
                snapshot.layer,
                labelled_table(snapshot, conditions, by, min_per_label),
                layers=chosen,
                n_folds=folds,
                options=options,
                on_progress=on_progress,
            )
        )
        fingerprint = self.store.settings.fingerprint
        return replace(probe, label_field=by, fingerprint=fingerprint)

    def save_head(self, probe: Probe, *, lock_timeout_s: float = 10.0) -> None:
        """Keep a probe's head with the index, in space of the one before.

        It stays as it is when documents are added. Raises `OptionError` for a probe of an index
        with other layers or vectors of another width, `LockedIndexError` or `StorageError`.
        """
        check_type(probe, Probe, what="a head is one of a `Probe`")
        head, best = probe.head, probe.best
        self.resolve_layers(head.layer)  # that of another index may not be here
        if head.weights.shape[1] != self.store.settings.width:
            raise OptionError(
                f"the head is for vectors of width {head.weights.shape[1]}, "
                f"not {self.store.settings.width}: probe this index"
            )
        if probe.fingerprint != self.store.settings.fingerprint:
            raise IndexMismatchError("the head is for vectors of another model: probe this index")
        record = {
            "fingerprint": self.store.settings.fingerprint,
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
        with self.store.write(lock_timeout_s=lock_timeout_s) as writer:
            save_artifact(self.store, writer, HEAD, tensors, record)

    def head(self) -> Head:
        """Return the head that was saved with this index.

        Raises `OptionError` where there is none, `IndexMismatchError` for one that does not fit
        the index, `DamagedIndexError` for a changed file.
        """
        found = load_artifact(self.store, HEAD)
        if found is None:
            raise OptionError("this index has no head: run 'layerdex probe INDEX --save' first")
        tensors, record = found
        shape = (len(record["labels"]), self.store.settings.width)
        kinds = {name: (one.shape, one.dtype.name) for name, one in tensors.items()}
        fits = kinds == {"weights": (shape, "float32"), "biases": (shape[:1], "float32")}
        is_of_model = record["fingerprint"] == self.store.settings.fingerprint
        if not (fits and is_of_model and record["layer"] in self.layers):
            raise IndexMismatchError(
                "the head was made for vectors of another model or layer: "
                "run 'layerdex probe INDEX --save' again"
            )
        return Head(
            layer=record["layer"],
            label_names=tuple(record["labels"]),
            temperature=record["temperature"],
            **tensors,
        )

    def classify_by_head(
        self, texts: Iterable[str], *, min_confidence: float = 0.0
    ) -> list[Prediction]:
        """Label texts by the saved head; the confidence is its calibrated probability.

        ``neighbors`` are empty. A label is None below ``min_confidence``. Raises as `head` does.
        """
        check_between("a confidence", min_confidence, 0, 1)
        head, texts = self.head(), read_texts(texts)
        found = head.probabilities(self.encode_at(texts, layer_spaces([head.layer]))[head.layer])
        best, shares = found.argmax(axis=1), found.max(axis=1)
        return [
            Prediction(
                text=text,
                label=head.label_names[code] if share >= min_confidence else None,
                confidence=round_similarity(share),
                layer=head.layer,
                neighbors=(),
            )
            for text, code, share in zip(texts, best, shares, strict=True)
        ]
