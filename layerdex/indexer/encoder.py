"""The encoder: texts once through the model, a pooled vector at every chosen layer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

import numpy as np

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
from layerdex.records import Encoded, EncodedVectors, EncoderSettings, LongText, Pooling

DEFAULT_WINDOW = 4_096
_MOST_BUDGET_RATIO = 16
# Longer inputs are rarely what a user of a long-context model wants unasked: attention is
# quadratic. --max-length goes up to what the model allows.
_DEFAULT_MAX_LENGTH = 512


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
        self._token_budget = token_budget or self.engine.token_budget
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
            token_budget=self._token_budget,
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
            settings.model if model is None else model,
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
        encoder._adapt_budget()
        return encoder

    @property
    def settings(self) -> EncoderSettings:
        """The settings that an index made with this encoder remembers."""
        return self._settings

    def _adapt_budget(self) -> None:
        """Use this engine's own budget where the recorded one is for another kind of device.

        Batches for a GPU take gigabytes on a CPU, and those for a CPU leave a GPU idle. The same
        bytes are promised on the same engine only.
        """
        recorded, own = self._settings.token_budget, self.engine.token_budget
        if not own <= recorded * _MOST_BUDGET_RATIO <= own * _MOST_BUDGET_RATIO**2:
            self._token_budget = own

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        """Encode texts at ``layers`` (see `layerdex.layers`); order is kept.

        Identical texts are encoded once, and only blocks up to the deepest layer run. Returns
        vectors (n_layers, n, width) float32, layers ascending. With `LongText.CHUNK` a text that
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
        if len(places) == len(texts):  # only repeats are worth a copy of all vectors
            return once
        return Encoded(once.vectors[:, place], once.n_tokens[place], once.truncated[place])

    def _encode(self, texts: Sequence[str], layers: tuple[int, ...]) -> Encoded:
        tokens = self._tokenizer.tokenize(texts)
        n_tokens, truncated = tokens.lengths, tokens.truncated
        # A first chunk is the text as it would be cut, so that batches, and with them the bytes of
        # texts that fit, are the same in either mode.
        vectors = self._pool(tokens, layers)
        if self._settings.long is LongText.CHUNK and truncated.any():
            long = np.flatnonzero(truncated)
            whole = average_chunks(
                self._tokenizer,
                [texts[int(i)] for i in long],
                vectors[:, long],
                lambda chunks: self._pool(chunks, layers),
            )
            vectors[:, long] = whole.vectors
            n_tokens[long], truncated[long] = whole.n_tokens, whole.truncated
        return Encoded(vectors, n_tokens, truncated)

    def _pool(self, tokens: Tokens, layers: tuple[int, ...]) -> EncodedVectors:
        """Return the vectors of tokenised texts, (n_layers, n, width) float32."""
        lengths = tokens.lengths
        if not lengths.all():
            raise ModelError("a text gave no tokens at all, and this model adds none")
        vectors = np.empty((len(layers), len(lengths), self._settings.width), dtype=np.float32)
        pad_id = self.engine.facts.tokenizer.pad_id
        batches = (
            make_batch(tokens, places, pad_id=pad_id)
            for places in plan_batches(lengths, token_budget=self._token_budget)
        )
        with contextlib.closing(self.engine.pool(batches, layers)) as results:
            for places, pooled in results:
                for slot, of_layer in enumerate(pooled):
                    vectors[slot, places] = of_layer
        return vectors


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
