"""Layers in scikit-learn: a transformer of texts, and the vote of nearest neighbours.

``Pipeline([("embed", LayerEmbedder()), ("vote", LayerKNeighborsClassifier())])`` may be searched
over ``embed__layer``: each text is encoded once, at all layers, however many clones ask for it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from layerdex.arguments import check_count, to_choice
from layerdex.choices import Weights
from layerdex.errors import LayerError
from layerdex.index.encoders import make_encoder
from layerdex.index.open_index import read_texts
from layerdex.indexer.vector_cache import VectorCache
from layerdex.layers import LayerSelection, describe_layers, resolve_layer, resolve_layers
from layerdex.options import EncoderOptions, RuntimeOptions
from layerdex.records import Encoder, Vectors
from layerdex.search.knn.neighbors import Neighbors, find_neighbors
from layerdex.search.knn.voting import labels_of, vote, vote_shares
from layerdex.search.vectors.in_memory import InMemoryVectors

__all__ = ["LayerEmbedder", "LayerKNeighborsClassifier", "clear_cache", "limit_cache"]

CACHE_BYTES = 1 << 30
"""Vectors kept for the whole process: of MiniLM's seven layers, those of 95,000 texts."""

_N_ENCODERS = 2  # a BERT-base takes 440 MB
_cache = VectorCache(CACHE_BYTES)
_encoders: OrderedDict[tuple[EncoderOptions, RuntimeOptions], Encoder] = OrderedDict()
_lock = threading.Lock()


def limit_cache(size_bytes: int) -> None:
    """Keep at most ``size_bytes`` of vectors in this process; 0 keeps none.

    Raises `OptionError` for what is not a whole number of at least 0.
    """
    _cache.resize(size_bytes)


def clear_cache() -> None:
    """Forget all vectors and loaded models of this process."""
    with _lock:
        _encoders.clear()
    _cache.clear()


class LayerEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Texts to their unit vectors at one layer of an encoder, (n, width) float32.

    The parameters are those of `Index.create`; ``layer`` may be negative. ``layers`` says which
    layers a text is encoded at when it first comes, so that a search over ``layer`` finds the
    others in memory (see `limit_cache`); where only one is ever needed, name it there too, and
    blocks above it never run. The cache serves all clones in a process, and processes share none:
    search with ``n_jobs=1``, as the encoder uses all cores anyway.

    `fit` learns nothing but ``layer_`` (resolved) and ``n_features_out_``; it and `transform` raise
    `ModelError`, `OptionError` or `MissingPackageError`.
    """

    def __init__(
        self,
        model: str = "minilm",
        layer: int = -1,
        pooling: str | None = None,
        template: str = "{text}",
        *,
        layers: LayerSelection = "all",
        revision: str | None = None,
        adapter: str | None = None,
        max_length: int | None = None,
        long: str = "truncate",
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "auto",
    ) -> None:
        self.model = model
        self.layer = layer
        self.pooling = pooling
        self.template = template
        self.layers = layers
        self.revision = revision
        self.adapter = adapter
        self.max_length = max_length
        self.long = long
        self.device = device
        self.dtype = dtype
        self.engine = engine

    def fit(self, X: Iterable[str], y: object = None) -> Self:  # noqa: ARG002, N803
        """Load the model and check the parameters; the texts are not looked at."""
        encoder = self._encoder()
        self.layer_, _ = self._resolve(encoder)
        self.n_features_out_ = encoder.settings.width
        return self

    def transform(self, X: Iterable[str]) -> Vectors:  # noqa: N803
        """Return the vectors of texts, (n, width) float32, in their order."""
        encoder = self._encoder()
        layer, layers = self._resolve(encoder)
        texts = read_texts(X)
        variant = repr(self._options()[1])
        return _cache.vectors(encoder, texts, layers=layers, layer=layer, variant=variant)

    @property
    def _n_features_out(self) -> int:  # the mixin's name for it
        return self.n_features_out_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_out_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _options(self) -> tuple[EncoderOptions, RuntimeOptions]:
        parameters = self.get_params()
        encoder, runtime = (
            {field.name: parameters[field.name] for field in fields(kind)}
            for kind in (EncoderOptions, RuntimeOptions)
        )
        return EncoderOptions(**encoder), RuntimeOptions(**runtime)

    def _encoder(self) -> Encoder:
        key = self._options()
        with _lock:
            if key not in _encoders:
                _encoders[key] = make_encoder(*key)
                if len(_encoders) > _N_ENCODERS:
                    _encoders.popitem(last=False)
            _encoders.move_to_end(key)
            return _encoders[key]

    def _resolve(self, encoder: Encoder) -> tuple[int, tuple[int, ...]]:
        depth = encoder.settings.depth
        layer, layers = (
            resolve_layer(self.layer, depth=depth),
            resolve_layers(self.layers, depth=depth),
        )
        if layer not in layers:
            raise LayerError(f"layer {layer} is not among the layers {describe_layers(layers)}")
        return layer, layers


class LayerKNeighborsClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The vote of the nearest neighbours by cosine, as `Index.classify` takes it.

    ``n_neighbors`` and ``weights`` (``distance`` or ``uniform``) are as there: similarities within
    1e-5 of each other count as equal and are ordered as the samples were given, and a tie goes to
    the label of the nearest neighbour among the tied (see `search.classify.vote`). Vectors
    (n, width) may have any length; one of length 0 has a similarity of 0 to all, as in
    scikit-learn's ``cosine_similarity``. Where labels tie, their shares in
    `predict_proba` are equal, but for the smallest step above that the winner has.

    `fit` raises ValueError for vectors that are not finite, `OptionError` for parameters.
    """

    classes_: NDArray[Any]

    def __init__(self, n_neighbors: int = 10, *, weights: str = "distance") -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Remember vectors (n, width) and their labels (n,)."""
        check_count("n_neighbors", self.n_neighbors)
        to_choice(Weights, self.weights)
        vectors, labels = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(labels)
        self.classes_, self._codes = np.unique(labels, return_inverse=True)
        self._vectors = _to_unit(vectors)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Return the label of each vector, (n,)."""
        found, labels = self._neighbors(X)
        codes = vote(labels, found.similarities, Weights(self.weights)).labels
        return np.asarray(self.classes_[codes])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Return each label's share of the vote, (n, n_classes), in the order of ``classes_``."""
        found, labels = self._neighbors(X)
        weights = Weights(self.weights)
        shares = vote_shares(labels, found.similarities, weights, n_labels=len(self.classes_))
        winners = vote(labels, found.similarities, weights).labels
        shares[np.arange(len(shares)), winners] = np.nextafter(shares.max(axis=1), 2)
        return shares

    def _neighbors(self, X: ArrayLike) -> tuple[Neighbors, NDArray[np.int64]]:  # noqa: N803
        check_is_fitted(self)
        queries = _to_unit(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))
        # A further component, in which a zero vector lies alone, gives it a direction.
        stored = np.pad(self._vectors, ((0, 0), (0, 1)))
        queries = np.column_stack([queries, ~queries.any(axis=1)])
        rows = np.arange(len(stored))
        k = check_count("n_neighbors", self.n_neighbors)
        found = find_neighbors(InMemoryVectors(rows, stored), queries, k)
        return found, labels_of(found, rows, self._codes)


def _to_unit(vectors: NDArray[Any]) -> Vectors:
    # Scaled by their largest component first: squares of 1e200 would overflow.
    scaled = vectors / np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(normalize(scaled), dtype=np.float32)
