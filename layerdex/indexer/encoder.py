"""The encoder: texts once through the model, a pooled vector at every chosen layer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import ModelError, OptionError
from layerdex.indexer.agreement import check_fingerprint
from layerdex.indexer.batches import plan_batches
from layerdex.indexer.chunks import average_chunks
from layerdex.indexer.devices import Precision
from layerdex.indexer.engine import EngineName, load_engine, make_batch
from layerdex.indexer.fingerprint import fingerprint
from layerdex.indexer.models import ModelFolder, find_model
from layerdex.indexer.templates import PLAIN, Template
from layerdex.indexer.tokenizing import TextTokenizer, Tokens
from layerdex.layers import resolve_layers
from layerdex.records import Encoded, EncoderSettings, LongText, Pooling

DEFAULT_WINDOW = 4_096
# Longer inputs are rarely what a user of a long-context model wants unasked: attention is
# quadratic. --max-length goes up to what the model allows.
_DEFAULT_MAX_LENGTH = 512

Number = TypeVar("Number", np.float16, np.float32)


class TransformerEncoder:
    """A transformers encoder, on whichever engine, behind the `Encoder` protocol."""

    def __init__(
        self,
        model: str = "minilm",
        *,
        revision: str | None = None,
        pooling: Pooling | None = None,
        template: str = PLAIN,
        max_length: int | None = None,
        long: LongText = LongText.TRUNCATE,
        token_budget: int | None = None,
        window: int = DEFAULT_WINDOW,
        device: str = "auto",
        precision: Precision = Precision.AUTO,
        engine: EngineName = EngineName.AUTO,
    ) -> None:
        """Load a model; what is None is the model's own choice, else mean pooling and so on.

        Raises `ModelError`, `OptionError` or `MissingPackageError`.
        """
        folder = find_model(model, revision=revision)
        self._pooling = pooling or _own_pooling(folder)
        self.engine = load_engine(
            folder, name=engine, pooling=self._pooling, device=device, precision=precision
        )
        facts = self.engine.facts
        max_length = _choose_max_length(folder, facts.n_positions, max_length)
        self._tokenizer = TextTokenizer(
            facts.tokenizer,
            template=Template.parse(template, mask_token=facts.tokenizer.mask_token),
            max_length=max_length,
            needs_mask=self._pooling is Pooling.MASK,
        )
        self._lock = threading.Lock()
        self._settings = EncoderSettings(
            model=folder.name,
            revision=folder.revision,
            pooling=self._pooling,
            template=template,
            max_length=max_length,
            depth=facts.depth,
            width=facts.width,
            fingerprint=fingerprint(
                folder.path,
                pooling=self._pooling,
                template=template,
                max_length=max_length,
                long=long,
            ),
            token_budget=token_budget or self.engine.token_budget,
            window=window,
            long=long,
        )

    @classmethod
    def for_index(
        cls,
        settings: EncoderSettings,
        *,
        device: str,
        precision: Precision,
        engine: EngineName = EngineName.AUTO,
        model: str | None = None,
    ) -> TransformerEncoder:
        """Load the encoder that an index was made with, or raise `IndexMismatchError`.

        ``model`` is where it lies now, if it has moved.
        """
        encoder = cls(
            model or settings.model,
            revision=settings.revision if model is None else None,
            pooling=settings.pooling,
            template=settings.template,
            max_length=settings.max_length,
            long=settings.long,
            token_budget=settings.token_budget,
            window=settings.window,
            device=device,
            precision=precision,
            engine=engine,
        )
        check_fingerprint(encoder.settings, settings)
        return encoder

    @property
    def settings(self) -> EncoderSettings:
        """The settings that an index made with this encoder remembers."""
        return self._settings

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        """Encode texts at ``layers`` (see `layerdex.layers`); order is kept.

        Identical texts are encoded once, and only blocks up to the deepest layer run. Returns
        vectors (n_layers, n, width) float16, layers ascending. With `LongText.CHUNK` a text that
        does not fit gets the average of its chunks (see `average_chunks`), and one that fits the
        same bytes as without.
        """
        layers = resolve_layers(layers, depth=self._settings.depth)
        places: dict[str, int] = {}
        place = np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)
        with self._lock:
            once = self._encode(list(places), layers)
        if not np.isfinite(once.vectors).all() or not once.vectors.any(axis=-1).all():
            raise ModelError(f"the model {self._settings.model!r} gave vectors without a direction")
        return Encoded(once.vectors[:, place], once.n_tokens[place], once.truncated[place])

    def _encode(self, texts: Sequence[str], layers: tuple[int, ...]) -> Encoded:
        tokens = self._tokenizer.tokenize(texts)
        n_tokens, truncated = tokens.lengths, tokens.truncated
        is_long = truncated & (self._settings.long is LongText.CHUNK)
        long = np.flatnonzero(is_long)
        vectors = self._empty(layers, len(texts), np.float16)
        # A first chunk is the text as it would be cut, so that batches, and with them the bytes of
        # texts that fit, are the same in either mode.
        firsts = self._empty(layers, len(long), np.float32)
        for places, pooled in self._pool(tokens, layers):
            vectors[:, places] = pooled
            at = is_long[places]
            firsts[:, np.searchsorted(long, places[at])] = pooled[:, at]
        if len(long):

            def encode(chunks: Tokens) -> NDArray[np.float32]:
                return self._pool_all(chunks, layers)

            whole = average_chunks(self._tokenizer, [texts[int(i)] for i in long], firsts, encode)
            vectors[:, long] = whole.vectors
            n_tokens[long], truncated[long] = whole.n_tokens, whole.truncated
        return Encoded(vectors, n_tokens, truncated)

    def _pool_all(self, tokens: Tokens, layers: tuple[int, ...]) -> NDArray[np.float32]:
        vectors = self._empty(layers, len(tokens.ids), np.float32)
        for places, pooled in self._pool(tokens, layers):
            vectors[:, places] = pooled
        return vectors

    def _empty(self, layers: tuple[int, ...], n: int, dtype: type[Number]) -> NDArray[Number]:
        return np.empty((len(layers), n, self._settings.width), dtype=dtype)

    def _pool(
        self, tokens: Tokens, layers: tuple[int, ...]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield places among the tokens' texts and their vectors, (n_layers, n, width)."""
        lengths = tokens.lengths
        if not lengths.all():
            raise ModelError("a text gave no tokens at all, and this model adds none")
        pad_id = self.engine.facts.tokenizer.pad_id
        batches = (
            make_batch(tokens, places, pad_id=pad_id)
            for places in plan_batches(lengths, token_budget=self._settings.token_budget)
        )
        for places, pooled in self.engine.pool(batches, layers):
            yield places, np.stack(pooled)


def _choose_max_length(folder: ModelFolder, limit: int, wanted: int | None) -> int:
    """Return the number of tokens a text may have, special ones included.

    Left out, that is the model's own (sentence-transformers) value, else at most 512. Raises
    `OptionError` for more than the model has positions for.
    """
    if wanted is None:
        return min(folder.max_length or _DEFAULT_MAX_LENGTH, limit)
    if not 1 <= wanted <= limit:
        raise OptionError(f"maximum length {wanted} is not between 1 and {limit} tokens")
    return wanted


def _own_pooling(folder: ModelFolder) -> Pooling:
    if isinstance(folder.pooling, Pooling):
        return folder.pooling
    if folder.pooling is not None:
        raise OptionError(
            f"the model {folder.name!r} was made for pooling {folder.pooling!r}, which is none of "
            f"{', '.join(Pooling)}: choose one with --pooling"
        )
    return Pooling.MEAN
