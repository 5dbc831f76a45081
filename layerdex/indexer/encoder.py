"""The encoder: each text once through the model, with a pooled vector for every chosen layer."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import LongText, Pooling
from layerdex.errors import ModelError, OptionError
from layerdex.indexer.engine_factory import load_engine
from layerdex.indexer.engines.protocol import make_batch
from layerdex.indexer.fair_lock import FairLock
from layerdex.indexer.models.compatibility import check_loaded, choose_runtime
from layerdex.indexer.models.defaults import notes, resolve_options, resolve_pooling
from layerdex.indexer.models.fingerprint import fingerprint
from layerdex.indexer.models.model_folder import MINILM, find_model, is_missing_folder
from layerdex.indexer.progress import ReportFraction, report_texts, report_within
from layerdex.indexer.quantization.calibration import choose_calibration, find_calibration
from layerdex.indexer.quantization.fidelity import check_requantized
from layerdex.indexer.text.batches import plan_batches
from layerdex.indexer.text.chunks import average_chunks
from layerdex.indexer.text.spans import CharacterSpan, locate_spans
from layerdex.indexer.text.tokenizer import TextTokenizer, Tokens
from layerdex.indexer.text.windows import choose_window_bytes
from layerdex.layers import resolve_layers
from layerdex.options import EncoderOptions, RuntimeOptions
from layerdex.records import Encoded, EncodedSpans, EncodedVectors, EncoderSettings, Quantization

DEFAULT_WINDOW = 4_096
_MAX_BUDGET_RATIO = 16
# For English; it only decides how evenly progress moves.
_CHARACTERS_PER_TOKEN = 4


class TransformerEncoder:
    """A transformers encoder on any engine; implements the `ConcurrentEncoder` protocol."""

    reports_progress: Literal[True] = True
    is_concurrent: Literal[True] = True

    def __init__(
        self,
        options: EncoderOptions = EncoderOptions(),  # noqa: B008 - frozen
        *,
        runtime: RuntimeOptions = RuntimeOptions(),  # noqa: B008
        token_budget: int | None = None,
        window: int = DEFAULT_WINDOW,
        window_bytes: int | None = None,
        quantization: Quantization | None = None,
        pools_spans: bool = False,
    ) -> None:
        """Load a model.

        With ``pools_spans`` it has `encode_spans` in place of `encode`. ``token_budget`` and
        ``window_bytes`` are chosen for the engine and the model by default.
        ``quantization`` is that of an index in int8, to be followed exactly.
        Raises `ModelError`, `OptionError`, `StorageError` or `MissingPackageError`.
        """
        model = MINILM if options.model is None else options.model
        folder = find_model(model, revision=options.revision, adapter=options.adapter)
        pooling = resolve_pooling(options, folder)
        calibration = choose_calibration(options.calibration, runtime, stored=quantization)
        self.engine = load_engine(
            folder,
            pooling=None if pools_spans else pooling,
            runtime=runtime,
            calibration=calibration,
        )
        made = self.engine.quantization
        spec = self.engine.spec
        resolved = resolve_options(options, folder, spec)
        self._wanted = options
        self._pools_spans = pools_spans
        self._folder = folder
        self._lock = FairLock()
        self._token_budget = token_budget or self.engine.token_budget
        self._settings = EncoderSettings(
            **{field.name: getattr(resolved, field.name) for field in fields(resolved)},
            depth=spec.depth,
            width=spec.width,
            fingerprint=fingerprint(folder.contents, resolved, made),
            quantization=made if quantization is None else quantization,
            token_budget=self._token_budget,
            window=window,
            pads=spec.pads,
            window_bytes=window_bytes
            or choose_window_bytes(
                depth=spec.depth, width=spec.width, token_budget=self._token_budget
            ),
        )
        self._tokenizer = self._make_tokenizer()

    @classmethod
    def for_index(
        cls,
        settings: EncoderSettings,
        *,
        runtime: RuntimeOptions,
        model: str | None = None,
        adapter: str | None = None,
        calibration: str | None = None,
    ) -> TransformerEncoder:
        """Load the encoder of an index, or raise `IndexMismatchError`.

        ``model``, ``adapter`` and ``calibration`` are where they lie now, if they have moved.
        """
        runtime = choose_runtime(settings, runtime)
        options = settings.options()
        if model is not None:
            options = replace(options, model=model, revision=None)
        elif is_missing_folder(settings.model):
            raise ModelError(
                f"the index was made with the model in {settings.model!r}, which is not there: if "
                "it has moved, name its folder with --model"
            )
        if adapter is not None:
            options = replace(options, adapter=adapter)
        elif settings.adapter is not None and is_missing_folder(settings.adapter):
            raise ModelError(
                f"the index was made with the adapter in {settings.adapter!r}, which is not "
                "there: if it has moved, name its folder with --adapter"
            )
        if calibration is not None:
            options = replace(options, calibration=find_calibration(settings, calibration))
        encoder = cls(
            options,
            runtime=runtime,
            token_budget=settings.token_budget,
            window=settings.window,
            quantization=settings.quantization,
        )
        check_loaded(encoder.settings, settings, encoder._folder)
        if (made := encoder.engine.quantization) is not None and settings.quantization is not None:
            check_requantized(made, settings.quantization, name=settings.model)
        encoder._settings = replace(
            encoder.settings, pads=settings.pads, window_bytes=settings.window_bytes
        )
        encoder._adapt_budget()
        return encoder

    @property
    def settings(self) -> EncoderSettings:
        """The settings that an index created with this encoder stores."""
        return self._settings

    def notes(self, *, query_template: str | None = None) -> list[str]:
        """Return what the user of a new index should know of its model.

        ``query_template`` is the index's own, None for the template of the documents.
        """
        return notes(self._wanted, self._folder, self.engine.spec, query_template=query_template)

    def with_template(self, template: str) -> TransformerEncoder:
        """Return an encoder with another template that shares this encoder's model.

        Raises `OptionError` for a template that this model or its pooling cannot use.
        """
        options = replace(self._settings.options(), template=template)
        other = copy.copy(self)  # shares the lock too: one model runs for one caller at a time
        other._settings = replace(
            self._settings,
            template=template,
            fingerprint=fingerprint(self._folder.contents, options, self._settings.quantization),
        )
        other._tokenizer = other._make_tokenizer()
        return other

    def _make_tokenizer(self) -> TextTokenizer:
        settings = self._settings
        return TextTokenizer(
            self.engine.spec.tokenizer,
            template=settings.template,
            max_length=settings.max_length,
            needs_mask=settings.pooling is Pooling.MASK,
        )

    def _adapt_budget(self) -> None:
        """Use this engine's own budget where the stored one is for another kind of device.

        Batches for a GPU take gigabytes on a CPU, and those for a CPU leave a GPU idle. Identical
        bytes are promised for the same engine only.
        """
        stored, own = self._settings.token_budget, self.engine.token_budget
        if not own <= stored * _MAX_BUDGET_RATIO <= own * _MAX_BUDGET_RATIO**2:
            self._token_budget = own

    def encode(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoded:
        """Encode texts at ``layers`` (see `layerdex.layers`), in their order.

        Identical texts are encoded once, and only blocks up to the deepest layer run. Returns
        vectors (n_layers, n, width) float32, layers ascending. With `LongText.CHUNK` a text that
        does not fit gets the average of its chunks (see `average_chunks`); one that fits gets the
        same bytes as with `LongText.TRUNCATE`. ``on_progress`` is called a few times a second with
        the number of texts done, estimated from the share of tokens, as batches go by length. If
        it raises, the call ends. It must not call this encoder.
        """
        if self._pools_spans:
            raise OptionError("this encoder pools spans: ask it for spans")
        layers = resolve_layers(layers, depth=self._settings.depth)
        index_of: dict[str, int] = {}
        indices = np.array(
            [index_of.setdefault(text, len(index_of)) for text in texts], dtype=np.int64
        )
        unique = list(index_of)
        report = report_texts(len(texts), on_progress)
        tokens = self._tokenizer.tokenize(unique)  # without the lock: others may encode meanwhile
        with self._lock.hold(background=on_progress is not None):
            report(0)  # the run may have been stopped during the wait
            encoded = self._encode(unique, tokens, layers, report)
        self._check(encoded.vectors)
        if len(unique) == len(texts):  # without repeats no copy of all vectors is needed
            return encoded
        counts = (getattr(encoded, field.name)[indices] for field in fields(Encoded)[1:])
        return Encoded(encoded.vectors[:, indices], *counts)

    def encode_spans(
        self,
        texts: Sequence[str],
        spans: Sequence[Sequence[CharacterSpan]],
        layers: Sequence[int],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> EncodedSpans:
        """Encode spans of texts: each the normalised mean of its tokens' states in its text.

        A span is its first character and the one behind its last, and need not be a word. Only
        blocks up to the deepest layer run. With `LongText.CHUNK`, of a text that does not fit each
        span is taken from the chunk in which it is whole and farthest from an edge. Memory grows
        with the spans of a batch: with the texts in it times the most spans of one of them.
        """
        if not self._pools_spans:
            raise OptionError("this encoder pools whole texts: make one with pools_spans")
        layers = resolve_layers(layers, depth=self._settings.depth)
        report = report_texts(len(texts), on_progress)
        in_chunks = self._settings.long is LongText.CHUNK
        located = locate_spans(self._tokenizer, texts, spans, in_chunks=in_chunks)
        with self._lock.hold(background=on_progress is not None):
            report(0)
            vectors = self._pool(located.tokens, layers, report)
        self._check(vectors)
        in_order = np.argsort(located.numbers)
        return EncodedSpans(
            vectors[:, in_order],
            located.numbers[in_order],
            located.cut,
            located.n_tokens,
            located.truncated,
        )

    def _check(self, vectors: EncodedVectors) -> None:
        squares = np.einsum("lnw,lnw->ln", vectors, vectors)
        if not ((squares > 0) & (squares < np.inf)).all():
            raise ModelError(
                f"the model {self._settings.model!r} gave vectors that are zero or not finite"
            )

    def _encode(
        self, texts: Sequence[str], tokens: Tokens, layers: tuple[int, ...], report: ReportFraction
    ) -> Encoded:
        n_tokens, truncated = tokens.lengths, tokens.truncated
        n_unknown, unreadable = self._tokenizer.count_unknown(tokens.ids)
        is_chunked = self._settings.long is LongText.CHUNK
        long = np.flatnonzero(truncated) if is_chunked else np.empty(0, dtype=np.int64)
        share = _share_of_first_chunks(n_tokens, [len(texts[int(i)]) for i in long])
        # A first chunk is the truncated text, so that batches, and with them the bytes of texts
        # that fit, are the same in either mode.
        vectors = self._pool(tokens, layers, report_within(report, 0, share))
        if len(long):
            report_rest = report_within(report, share, 1)
            averages = average_chunks(
                self._tokenizer,
                [texts[int(i)] for i in long],
                vectors[:, long],
                lambda chunks, start, stop: self._pool(
                    chunks, layers, report_within(report_rest, start, stop)
                ),
            )
            vectors[:, long] = averages.vectors
            n_tokens[long], truncated[long] = averages.n_tokens, averages.truncated
            n_unknown[long], unreadable[long] = averages.n_unknown, averages.unreadable
        return Encoded(vectors, n_tokens, truncated, n_unknown, unreadable)

    def _pool(
        self, tokens: Tokens, layers: tuple[int, ...], report: ReportFraction
    ) -> EncodedVectors:
        """Return the vectors of texts, or of their spans, (n_layers, n, width) float32."""
        lengths = tokens.lengths
        if not lengths.all():
            raise ModelError("a text has no tokens, and this model adds no special tokens")
        work = lengths if tokens.spans is None else np.ones(len(tokens.spans.tokens), np.int32)
        vectors = np.empty((len(layers), len(work), self._settings.width), dtype=np.float32)
        pad_id = self.engine.spec.tokenizer.pad_id
        batches = (
            make_batch(tokens, indices, pad_id=pad_id)
            for indices in plan_batches(
                lengths, token_budget=self._token_budget, pads=self._settings.pads
            )
        )
        n_done, n_total = 0, int(work.sum())
        with contextlib.closing(self.engine.pool(batches, layers)) as results:
            for indices, pooled in results:
                for i, layer_vectors in enumerate(pooled):
                    vectors[i, indices] = layer_vectors
                n_done += int(work[indices].sum())
                report(n_done / n_total)
        return vectors


def _share_of_first_chunks(n_tokens: NDArray[np.int32], n_characters: Sequence[int]) -> float:
    """Estimate the share of first chunks in the work; texts of ``n_characters`` have more."""
    n_first = max(int(n_tokens.sum()), 1)
    return n_first / (n_first + sum(n_characters) / _CHARACTERS_PER_TOKEN)
