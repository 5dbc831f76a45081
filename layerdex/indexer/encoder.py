"""The encoder: texts once through the model, a pooled vector at every chosen layer."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Dtype, EngineName, LongText, Pooling
from layerdex.errors import ModelError
from layerdex.indexer.engines.factory import load_engine
from layerdex.indexer.engines.protocol import make_batch
from layerdex.indexer.fair_lock import FairLock
from layerdex.indexer.models.compatibility import check_fingerprint
from layerdex.indexer.models.defaults import choose_max_length, own_pooling
from layerdex.indexer.models.fingerprint import fingerprint
from layerdex.indexer.models.model_folder import find_model
from layerdex.indexer.progress import ReportShare, part, report_texts
from layerdex.indexer.text.batches import plan_batches
from layerdex.indexer.text.chunks import average_chunks
from layerdex.indexer.text.templates import PLAIN, Template
from layerdex.indexer.text.tokenizer import TextTokenizer, TokenizerSpec, Tokens
from layerdex.layers import resolve_layers
from layerdex.records import Encoded, EncodedVectors, EncoderSettings

DEFAULT_WINDOW = 4_096
_MOST_BUDGET_RATIO = 16
# Of English; only how evenly progress moves depends on it.
_CHARACTERS_PER_TOKEN = 4


class TransformerEncoder:
    """A transformers encoder, on whichever engine, behind the `Encoder` protocol."""

    reports_progress: Literal[True] = True
    is_concurrent: Literal[True] = True

    def __init__(
        self,
        model: str = "minilm",
        *,
        revision: str | None = None,
        adapter: str | None = None,
        pooling: Pooling | None = None,
        template: str = PLAIN,
        max_length: int | None = None,
        long: LongText = LongText.TRUNCATE,
        token_budget: int | None = None,
        window: int = DEFAULT_WINDOW,
        device: str = "auto",
        precision: Dtype = Dtype.AUTO,
        engine: EngineName = EngineName.AUTO,
    ) -> None:
        """Load a model; what is None is the model's own choice, else mean pooling and so on.

        Raises `ModelError`, `OptionError` or `MissingPackageError`.
        """
        folder = find_model(model, revision=revision, adapter=adapter)
        self._pooling = pooling or own_pooling(folder)
        self.engine = load_engine(
            folder, name=engine, pooling=self._pooling, device=device, precision=precision
        )
        spec = self.engine.spec
        max_length = choose_max_length(folder, spec.n_positions, max_length)
        self._tokenizer = _make_tokenizer(
            spec.tokenizer, template, max_length=max_length, pooling=self._pooling
        )
        self._turns = FairLock()
        self._token_budget = token_budget or self.engine.token_budget
        self._folder = folder
        self._settings = EncoderSettings(
            model=folder.name,
            revision=folder.revision,
            pooling=self._pooling,
            template=template,
            max_length=max_length,
            depth=spec.depth,
            width=spec.width,
            fingerprint=fingerprint(
                folder.path,
                pooling=self._pooling,
                template=template,
                max_length=max_length,
                long=long,
                adapter=folder.adapter,
            ),
            token_budget=self._token_budget,
            window=window,
            long=long,
            adapter=None if folder.adapter is None else str(folder.adapter),
        )

    @classmethod
    def for_index(
        cls,
        settings: EncoderSettings,
        *,
        device: str,
        precision: Dtype,
        engine: EngineName = EngineName.AUTO,
        model: str | None = None,
        adapter: str | None = None,
    ) -> TransformerEncoder:
        """Load the encoder that an index was made with, or raise `IndexMismatchError`.

        ``model`` and ``adapter`` are where these lie now, if they have moved.
        """
        encoder = cls(
            settings.model if model is None else model,
            revision=settings.revision if model is None else None,
            adapter=settings.adapter if adapter is None else adapter,
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

    def with_template(self, template: str) -> TransformerEncoder:
        """Return an encoder with another template that shares this one's model.

        Raises `OptionError` for a template that this model or its pooling cannot use.
        """
        settings = self._settings
        other = copy.copy(self)  # also its turns: one model works for one of them at a time
        other._tokenizer = _make_tokenizer(
            self.engine.spec.tokenizer,
            template,
            max_length=settings.max_length,
            pooling=self._pooling,
        )
        digest = fingerprint(
            self._folder.path,
            pooling=self._pooling,
            template=template,
            max_length=settings.max_length,
            long=settings.long,
            adapter=self._folder.adapter,
        )
        other._settings = replace(settings, template=template, fingerprint=digest)
        return other

    def _adapt_budget(self) -> None:
        """Use this engine's own budget where the recorded one is for another kind of device.

        Batches for a GPU take gigabytes on a CPU, and those for a CPU leave a GPU idle. The same
        bytes are promised on the same engine only.
        """
        recorded, own = self._settings.token_budget, self.engine.token_budget
        if not own <= recorded * _MOST_BUDGET_RATIO <= own * _MOST_BUDGET_RATIO**2:
            self._token_budget = own

    def encode(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoded:
        """Encode texts at ``layers`` (see `layerdex.layers`); order is kept.

        Identical texts are encoded once, and only blocks up to the deepest layer run. Returns
        vectors (n_layers, n, width) float32, layers ascending. With `LongText.CHUNK` a text that
        does not fit gets the average of its chunks (see `average_chunks`), and one that fits the
        same bytes as without. ``on_progress`` is told a few times a second how many texts are
        done: the share of tokens, as batches go by length. An error of it ends the call. It may
        not call this encoder.
        """
        layers = resolve_layers(layers, depth=self._settings.depth)
        places: dict[str, int] = {}
        place = np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)
        tell = report_texts(len(texts), on_progress)
        tokens = self._tokenizer.tokenize(list(places))  # perhaps during another's turn
        with self._turns.take(patient=on_progress is not None):
            tell(0)  # whoever waited for the turn may want to stop by now
            once = self._encode(list(places), tokens, layers, tell)
        squares = np.einsum("lnw,lnw->ln", once.vectors, once.vectors)
        if not ((squares > 0) & (squares < np.inf)).all():
            raise ModelError(f"the model {self._settings.model!r} gave vectors without a direction")
        if len(places) == len(texts):  # only repeats are worth a copy of all vectors
            return once
        return Encoded(once.vectors[:, place], once.n_tokens[place], once.truncated[place])

    def _encode(
        self, texts: Sequence[str], tokens: Tokens, layers: tuple[int, ...], tell: ReportShare
    ) -> Encoded:
        n_tokens, truncated = tokens.lengths, tokens.truncated
        is_chunked = self._settings.long is LongText.CHUNK
        long = np.flatnonzero(truncated) if is_chunked else np.empty(0, dtype=np.int64)
        share = _share_of_firsts(n_tokens, [len(texts[int(i)]) for i in long])
        # A first chunk is the text as it would be cut, so that batches, and with them the bytes of
        # texts that fit, are the same in either mode.
        vectors = self._pool(tokens, layers, part(tell, 0, share))
        if len(long):
            tell_rest = part(tell, share, 1)
            whole = average_chunks(
                self._tokenizer,
                [texts[int(i)] for i in long],
                vectors[:, long],
                lambda chunks, start, stop: self._pool(
                    chunks, layers, part(tell_rest, start, stop)
                ),
            )
            vectors[:, long] = whole.vectors
            n_tokens[long], truncated[long] = whole.n_tokens, whole.truncated
        return Encoded(vectors, n_tokens, truncated)

    def _pool(self, tokens: Tokens, layers: tuple[int, ...], tell: ReportShare) -> EncodedVectors:
        """Return the vectors of tokenised texts, (n_layers, n, width) float32."""
        lengths = tokens.lengths
        if not lengths.all():
            raise ModelError("a text gave no tokens at all, and this model adds none")
        vectors = np.empty((len(layers), len(lengths), self._settings.width), dtype=np.float32)
        pad_id = self.engine.spec.tokenizer.pad_id
        batches = (
            make_batch(tokens, places, pad_id=pad_id)
            for places in plan_batches(lengths, token_budget=self._token_budget)
        )
        n_done, n_total = 0, int(lengths.sum())
        with contextlib.closing(self.engine.pool(batches, layers)) as results:
            for places, pooled in results:
                for slot, of_layer in enumerate(pooled):
                    vectors[slot, places] = of_layer
                n_done += int(lengths[places].sum())
                tell(n_done / n_total)
        return vectors


def _make_tokenizer(
    spec: TokenizerSpec, template: str, *, max_length: int, pooling: Pooling
) -> TextTokenizer:
    return TextTokenizer(
        spec,
        template=Template.parse(template, mask_token=spec.mask_token),
        max_length=max_length,
        needs_mask=pooling is Pooling.MASK,
    )


def _share_of_firsts(n_tokens: NDArray[np.int32], n_characters: Sequence[int]) -> float:
    """Guess the share of the work that first chunks are; texts of ``n_characters`` have more."""
    n_firsts = max(int(n_tokens.sum()), 1)
    return n_firsts / (n_firsts + sum(n_characters) / _CHARACTERS_PER_TOKEN)
