"""What an open index holds: its store and its encoder, loaded once and shared by all questions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from layerdex.arguments import to_list
from layerdex.errors import OptionError
from layerdex.index.encoders import with_template
from layerdex.index.stored_transforms import StoredTransforms
from layerdex.layers import LayerSelection, resolve_stored
from layerdex.records import Encoder, Vectors
from layerdex.storage.store import Store
from layerdex.storage.vectors.codecs import as_stored


class OpenIndex:
    """The parts of an open index that `Index`, its views and its artifacts share."""

    def __init__(self, store: Store, load_encoder: Callable[[], Encoder]) -> None:
        self.store = store
        self.transforms: StoredTransforms | None = None  # the newest that were loaded
        self._load_encoder = load_encoder
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()

    @property
    def encoder(self) -> Encoder:
        """The encoder that the index was made with; several threads load it once."""
        if self._encoder is None:
            with self._loading:
                if self._encoder is None:
                    self._encoder = self._load_encoder()
        return self._encoder

    def resolve_layers(self, layers: LayerSelection) -> tuple[int, ...]:
        """Return the stored layers of a selection, ascending; raises `LayerError`."""
        store = self.store
        return resolve_stored(layers, stored=store.layers, depth=store.settings.depth)


class HasOpenIndex(Protocol):
    """An `Index`, as what stands below it knows one."""

    @property
    def _open(self) -> OpenIndex: ...


class QueryVectors:
    """The vectors of texts at the layers that a question needs, encoded when first asked for.

    A question that starts again, because a segment was compacted away, encodes nothing twice.
    ``template`` is put around the texts in place of the documents' own.
    """

    def __init__(self, index: OpenIndex, texts: Iterable[str], *, template: str | None = None):
        self.texts = read_texts(texts)
        self._index = index
        self._template = template
        self._vectors: dict[int, Vectors] = {}

    def at(self, layers: Iterable[int]) -> dict[int, Vectors]:
        """Return the vectors at least at ``layers``, (n, width) float32 each, as if stored."""
        missing = tuple(sorted(set(layers) - set(self._vectors)))
        if missing:
            encoder = self._index.encoder
            if self._template is not None:
                encoder = with_template(encoder, self._template)
            codec = self._index.store.codec
            encoded = encoder.encode(self.texts, missing).vectors
            for layer, vectors in zip(missing, encoded, strict=True):
                self._vectors[layer] = as_stored(vectors, codec)
        return self._vectors


def query_vectors(index: OpenIndex, texts: Iterable[str], template: str | None) -> QueryVectors:
    """Return the vectors of queries, inside ``template`` or else the index's query template."""
    template = index.store.query_template if template is None else template
    return QueryVectors(index, texts, template=template)


def read_texts(texts: Iterable[str]) -> list[str]:
    """Return texts as a list, checked like documents' texts; raises `OptionError`."""
    from layerdex.indexer.readers.values import BadValueError, text_value

    if isinstance(texts, str):
        raise OptionError("give a list of texts, not one string")
    texts = to_list(texts, what="give a list of texts")
    for text in texts:
        try:
            text_value(text, field="a text asked about")
        except BadValueError as error:
            raise OptionError(str(error)) from error
    return texts


def read_queries(queries: str | Iterable[str]) -> Sequence[str]:
    """Return one query or several as a list."""
    return [queries] if isinstance(queries, str) else to_list(queries, what="give texts or ids")


def opened(index: object) -> OpenIndex:
    """Return what an `Index` holds; `OptionError` for anything else."""
    found = getattr(index, "_open", None)
    if not isinstance(found, OpenIndex):
        raise OptionError(f"the other index must be an Index, not {type(index).__name__}")
    return found
