"""Estimators for scikit-learn: texts to vectors, and a nearest-neighbour classifier.

A grid search over ``embed__layer`` of ``Pipeline([("embed", LayerEmbedder()), ("vote",
LayerKNeighborsClassifier())])`` encodes each text once, at all layers, for all clones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
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
from layerdex.choices import Missing, Weights
from layerdex.errors import LayerError, OptionError
from layerdex.forks import ForkLock
from layerdex.index.encoders import make_encoder
from layerdex.index.open_index import as_list
from layerdex.indexer.readers.values import BadValueError, BlankError, text_value
from layerdex.indexer.vector_cache import VectorCache
from layerdex.layers import LayerSelection, format_layers, resolve_layer, resolve_layers
from layerdex.options import EncoderOptions, RuntimeOptions, TextFile
from layerdex.records import Encoder, Vectors
from layerdex.search.knn.neighbors import Neighbors, find_neighbors
from layerdex.search.knn.voting import labels_of, vote, vote_shares
from layerdex.search.vectors.in_memory import InMemoryVectors

__all__ = ["LayerEmbedder", "LayerKNeighborsClassifier", "clear_cache", "limit_cache"]

CACHE_BYTES = 1 << 30
"""Default size of the vector cache: 95,000 texts at the seven layers of MiniLM."""

_N_ENCODERS = 2  # a BERT-base takes 440 MB
_cache = VectorCache(CACHE_BYTES)
_encoders: OrderedDict[tuple[EncoderOptions, RuntimeOptions], Encoder] = OrderedDict()
_lock = ForkLock()


def limit_cache(size_bytes: int) -> None:
    """Limit the vector cache of this process to ``size_bytes``; 0 disables it.

    Raises `OptionError` unless it is a whole number of at least 0.
    """
    _cache.resize(size_bytes)


def clear_cache() -> None:
    """Remove all vectors and loaded models from the caches of this process."""
    with _lock:
        _encoders.clear()
    _cache.clear()


class LayerEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transforms texts to their unit vectors at one layer of an encoder, (n, width) float32.

    The parameters are those of `EncoderOptions` and `RuntimeOptions`; ``layer`` may be negative.
    New texts are encoded at all ``layers``, so that a search over ``layer`` finds their vectors in
    the cache (see `limit_cache`). If you need only one layer, pass it as ``layers`` too: blocks
    above it then never run. All clones in a process share the cache. Search with ``n_jobs=1``:
    processes do not share it, and the encoder uses all cores anyway.

    A text that is None, NaN, empty or blank is an `OptionError`, or a zero vector if ``missing`` is
    ``"zero"``.

    `fit` only sets ``layer_`` (resolved) and ``n_features_out_``. It and `transform` raise
    `ModelError`, `OptionError` or `MissingPackageError`.
    """

    def __init__(
        self,
        model: str = "minilm",
        layer: int = -1,
        pooling: str | None = None,
        template: str | None = None,
        *,
        layers: LayerSelection = "all",
        revision: str | None = None,
        adapter: str | None = None,
        max_length: int | None = None,
        long: str = "truncate",
        calibration: str | TextFile | None = None,
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "auto",
        missing: str = "error",
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
        self.calibration = calibration
        self.device = device
        self.dtype = dtype
        self.engine = engine
        self.missing = missing

    def fit(self, X: Iterable[str], y: object = None) -> Self:  # noqa: ARG002, N803
        """Load the model and check the parameters; the texts are ignored."""
        to_choice(Missing, self.missing)
        encoder = self._encoder()
        self.layer_, _ = self._resolve(encoder)
        self.n_features_out_ = encoder.settings.width
        return self

    def transform(self, X: Iterable[str]) -> Vectors:  # noqa: N803
        """Return the vectors of texts in order, (n, width) float32."""
        encoder = self._encoder()
        layer, layers = self._resolve(encoder)
        if isinstance(X, str):  # scikit-learn's vectorizers refuse one too
            raise OptionError("give a list of texts, not one string")
        texts = as_list(X)
        present = _find_present(texts, to_choice(Missing, self.missing))
        variant = repr(self._options()[1])
        vectors = _cache.vectors(
            encoder, [texts[i] for i in present], layers=layers, layer=layer, variant=variant
        )
        if len(present) == len(texts):
            return vectors
        filled = np.zeros((len(texts), encoder.settings.width), dtype=np.float32)
        filled[present] = vectors
        return filled

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
            {
                field.name: parameters[field.name]
                for field in fields(kind)
                if field.name in parameters
            }
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
        layer = resolve_layer(self.layer, depth=depth)
        layers = resolve_layers(self.layers, depth=depth)
        if layer not in layers:
            raise LayerError(f"layer {layer} is not among the layers {format_layers(layers)}")
        return layer, layers


class LayerKNeighborsClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies by a vote of the nearest neighbours by cosine, like `Index.classify`.

    ``weights`` is ``distance`` or ``uniform``. Similarities within 1e-5 of each other count as
    equal, and are ordered like the samples. If labels tie, the label of the nearest neighbour among
    them wins (see `search.knn.voting.vote`); its share in `predict_proba` is larger than the others
    by the smallest possible step. Vectors (n, width) may have any length; a zero vector has a
    similarity of 0 to all, as in scikit-learn's ``cosine_similarity``.

    `fit` raises ValueError for vectors that are not finite, `OptionError` for bad parameters.
    """

    classes_: NDArray[Any]

    def __init__(self, n_neighbors: int = 10, *, weights: str = "distance") -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Store vectors (n, width) and their labels (n,)."""
        check_count("n_neighbors", self.n_neighbors)
        to_choice(Weights, self.weights)
        vectors, labels = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(labels)
        self.classes_, self._codes = np.unique(labels, return_inverse=True)
        self._vectors = _to_unit(vectors)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Return the label of each vector, (n,)."""
        neighbors, labels = self._neighbors(X)
        codes = vote(labels, neighbors.similarities, Weights(self.weights)).labels
        return np.asarray(self.classes_[codes])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Return each label's share of the vote, (n, n_classes), in the order of ``classes_``."""
        neighbors, labels = self._neighbors(X)
        weights = Weights(self.weights)
        shares = vote_shares(labels, neighbors.similarities, weights, n_labels=len(self.classes_))
        winners = vote(labels, neighbors.similarities, weights).labels
        shares[np.arange(len(shares)), winners] = np.nextafter(shares.max(axis=1), 2)
        return shares

    def _neighbors(self, X: ArrayLike) -> tuple[Neighbors, NDArray[np.int64]]:  # noqa: N803
        check_is_fitted(self)
        queries = _to_unit(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))
        # An additional component gives zero vectors a direction that no stored vector has.
        stored = np.pad(self._vectors, ((0, 0), (0, 1)))
        queries = np.column_stack([queries, ~queries.any(axis=1)])
        rows = np.arange(len(stored))
        k = check_count("n_neighbors", self.n_neighbors)
        neighbors = find_neighbors(InMemoryVectors(rows, stored), queries, k)
        return neighbors, labels_of(neighbors, rows, self._codes)


def _find_present(texts: Sequence[object], missing: Missing) -> list[int]:
    """Return the positions of the texts that are not missing; raises `OptionError`."""
    present = []
    for i, text in enumerate(texts):
        try:
            text_value(text, field=f"the text at position {i}")
        except BlankError as error:
            if missing is Missing.ERROR:
                raise OptionError(f'{error}; missing="zero" makes a zero vector of it') from None
        except BadValueError as error:
            raise OptionError(str(error)) from None
        else:
            present.append(i)
    return present


def _to_unit(vectors: NDArray[Any]) -> Vectors:
    # Scaled by their largest component first: squares of 1e200 would overflow.
    scaled = vectors / np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(normalize(scaled), dtype=np.float32)
