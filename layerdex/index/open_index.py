"""What an open index holds: its store and its encoder, loaded once and shared by all questions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

import numpy as np

from layerdex.arguments import format_value, to_list
from layerdex.errors import OptionError
from layerdex.forks import ForkLock
from layerdex.index.approximates import LoadedApproximates
from layerdex.index.encoders import with_template
from layerdex.index.search_device import SearchDevice
from layerdex.index.stored_transforms import StoredTransforms
from layerdex.layers import LayerSelection, resolve_stored
from layerdex.records import Encoded, Encoder, OnProgress, ReportingEncoder, Vectors
from layerdex.search.knn.tiles.asked_device import use_device
from layerdex.storage.queries import query_both
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from layerdex.storage.vectors.codecs import as_stored

if TYPE_CHECKING:
    from layerdex.search.knn.tiles.device import Device

logger = logging.getLogger(__name__)

T = TypeVar("T")

_N_FEW_TEXTS = 16


class OpenIndex:
    """The parts of an open index that `Index`, its views and its artifacts share."""

    def __init__(
        self,
        store: Store,
        load_encoder: Callable[[], Encoder],
        choose_device: Callable[[], Device | None] | None = None,
    ) -> None:
        """Take a store; ``choose_device`` says where many vectors are compared."""
        self.store = store
        self._choose_device = SearchDevice() if choose_device is None else choose_device
        self.transforms: StoredTransforms | None = None  # the newest that were loaded
        self.approximates = LoadedApproximates()
        self._load_encoder = load_encoder
        self._encoder: Encoder | None = None
        self._templated: tuple[str, Encoder] | None = None  # the last, as a tokenizer takes 50 ms
        self._loading = ForkLock()
        self._last_needed: tuple[Hashable, tuple[int, ...]] | None = None

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied deeply, alone or within an `Index`."""
        raise TypeError("an Index is not pickled: open it by its path in each process")

    @property
    def encoder(self) -> Encoder:
        """The encoder that the index was made with; several threads load it once."""
        if self._encoder is None:
            with self._loading:
                if self._encoder is None:
                    self._encoder = self._load_encoder()
        return self._encoder

    def encoder_for(self, template: str | None) -> Encoder:
        """Return the encoder, with another template unless that is None."""
        if template is None:
            return self.encoder
        last = self._templated
        if last is None or last[0] != template:
            last = self._templated = (template, with_template(self.encoder, template))
        return last[1]

    def query(self, question: Callable[[Snapshot], T]) -> T:
        """Answer a question from the newest commit; texts are encoded between two tries.

        No transaction is open while a model is loaded or runs. The last try resolves the target
        again, and alone gives the answer.
        """
        with use_device(self._choose_device):
            return _answer(lambda: self.store.query(question))

    def query_by(
        self, vectors: QueryVectors, target: Hashable, question: Callable[[Snapshot], T]
    ) -> T:
        """Answer a question that needs the vectors of texts, as `query` does.

        ``target`` is what decides, with the index, which layers it needs. Few texts are encoded
        before the first try at the layers that the last question with this target needed: a try
        takes a fifth of a question to a small index.
        """
        last = self._last_needed
        if last is not None and last[0] == target and vectors.are_few:
            vectors.encode(last[1])
        answer = self.query(question)
        self._last_needed = target, vectors.layers
        return answer

    def query_with(self, other: OpenIndex, question: Callable[[Snapshot, Snapshot], T]) -> T:
        """Answer a question from the newest commits of this index and another; see `query`."""
        with use_device(self._choose_device):
            return _answer(lambda: query_both(self.store, other.store, question))

    def resolve_layers(self, layers: LayerSelection) -> tuple[int, ...]:
        """Return the stored layers of a selection, ascending; raises `LayerError`."""
        store = self.store
        return resolve_stored(layers, stored=store.layers, depth=store.settings.depth)


class HasOpenIndex(Protocol):
    """What `View` needs of another `Index`, which it cannot import."""

    @property
    def _open(self) -> OpenIndex: ...


class NotEncodedError(Exception):
    """A question needs vectors of texts at layers where they are not encoded yet."""

    def __init__(self, vectors: QueryVectors, layers: tuple[int, ...]) -> None:
        super().__init__(f"not encoded at the layers {layers}")
        self.vectors = vectors
        self.layers = layers


class QueryVectors:
    """The vectors of texts at the layers that a question needs, each encoded once.

    ``template`` is put around the texts in place of the documents' own. ``on_progress`` counts the
    texts encoded, if the encoder says how many. ``layers`` are those that the last try of the
    question needed.
    """

    def __init__(
        self,
        index: OpenIndex,
        texts: str | Iterable[str],
        *,
        template: str | None = None,
        on_progress: OnProgress | None = None,
    ):
        self.texts = read_texts(texts)
        self.layers: tuple[int, ...] = ()
        self._index = index
        self._template = template
        self._on_progress = on_progress
        self._vectors: dict[int, Vectors] = {}

    def at(self, layers: Iterable[int]) -> dict[int, Vectors]:
        """Return the vectors at least at ``layers``, (n, width) float32 each, as if stored.

        Raises `NotEncodedError`, which `OpenIndex.query` answers by encoding them.
        """
        self.layers = tuple(layers)
        if missing := self._missing(self.layers):
            raise NotEncodedError(self, missing)
        return self._vectors

    @property
    def are_few(self) -> bool:
        """Whether encoding them in vain would cost little, and nobody is told how far it is."""
        return len(self.texts) <= _N_FEW_TEXTS and self._on_progress is None

    def encode(self, layers: Iterable[int]) -> dict[int, Vectors]:
        """Return the vectors like `at`, after encoding those that are missing."""
        missing = self._missing(layers)
        if not self.texts:
            width = self._index.store.settings.width
            self._vectors.update(dict.fromkeys(missing, np.empty((0, width), np.float32)))
        elif missing:
            encoder = self._index.encoder_for(self._template)
            codec = self._index.store.codec
            encoded = self._encode(encoder, missing)
            self._note_unreadable(encoded)
            for layer, vectors in zip(missing, encoded.vectors, strict=True):
                self._vectors[layer] = as_stored(vectors, codec)
        return self._vectors

    def _encode(self, encoder: Encoder, layers: tuple[int, ...]) -> Encoded:
        tell, n = self._on_progress, len(self.texts)
        if tell is None or not isinstance(encoder, ReportingEncoder):
            return encoder.encode(self.texts, layers)
        return encoder.encode(self.texts, layers, on_progress=lambda done: tell(done, n))

    def _note_unreadable(self, encoded: Encoded) -> None:
        if self._vectors or encoded.unreadable is None or not encoded.unreadable.any():
            return
        example = format_value(self.texts[int(encoded.unreadable.argmax())])
        n, n_all = int(encoded.unreadable.sum()), len(self.texts)
        which, their = f"{n} of {n_all} texts, such as {example}", "their"
        if n_all == 1:
            which, their = f"the text {example}", "its"
        logger.warning(
            "the tokenizer knows no part of %s: %s neighbours mean nothing", which, their
        )

    def _missing(self, layers: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(set(layers) - set(self._vectors)))


def _answer(ask: Callable[[], T]) -> T:
    while True:
        try:
            return ask()
        except NotEncodedError as error:
            needed = error
        needed.vectors.encode(needed.layers)


def query_vectors(
    index: OpenIndex,
    texts: str | Iterable[str],
    template: str | None,
    on_progress: OnProgress | None = None,
) -> QueryVectors:
    """Return the vectors of queries, inside ``template`` or else the index's query template."""
    template = index.store.query_template if template is None else template
    return QueryVectors(index, texts, template=template, on_progress=on_progress)


def read_texts(texts: str | Iterable[str]) -> list[str]:
    """Return a text or several as a list, checked like documents'; raises `OptionError`."""
    from layerdex.indexer.readers.values import BadValueError, text_value

    texts = as_list(texts)
    for text in texts:
        try:
            text_value(text, field="a text asked about")
        except BadValueError as error:
            raise OptionError(str(error)) from error
    return texts


def as_list(queries: str | Iterable[str]) -> list[str]:
    """Return one text or id, or several, as a list."""
    what = "give texts or ids, such as the column df['text']"
    return [queries] if isinstance(queries, str) else to_list(queries, what=what)


def opened(index: object) -> OpenIndex:
    """Return what an `Index` holds; `OptionError` for anything else."""
    found = getattr(index, "_open", None)
    if not isinstance(found, OpenIndex):
        raise OptionError(f"the other index must be an Index, not {type(index).__name__}")
    return found
