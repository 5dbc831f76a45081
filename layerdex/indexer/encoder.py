"""The encoder: texts once through the model, a pooled vector at every chosen layer."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerdex.errors import ModelError, OptionError
from layerdex.indexer.agreement import check_fingerprint
from layerdex.indexer.batches import plan_batches
from layerdex.indexer.devices import (
    CPU_TOKEN_BUDGET,
    GPU_TOKEN_BUDGET,
    Precision,
    bound_memory,
    choose_device,
    choose_dtype,
)
from layerdex.indexer.fingerprint import fingerprint
from layerdex.indexer.hidden_states import HiddenStates
from layerdex.indexer.loading import choose_max_length, load_model, load_tokenizer
from layerdex.indexer.models import ModelFolder, find_model
from layerdex.indexer.pooling import pool
from layerdex.indexer.templates import PLAIN, Template
from layerdex.indexer.tokenizing import TextTokenizer, Tokens
from layerdex.layers import resolve_layers
from layerdex.records import Encoded, EncoderSettings, Pooling

DEFAULT_WINDOW = 4_096
_PROBE = "a probe of the layers"


class TransformerEncoder:
    """A transformers encoder behind the `Encoder` protocol."""

    def __init__(
        self,
        model: str = "minilm",
        *,
        revision: str | None = None,
        pooling: Pooling | None = None,
        template: str = PLAIN,
        max_length: int | None = None,
        token_budget: int | None = None,
        window: int = DEFAULT_WINDOW,
        device: str = "auto",
        precision: Precision = Precision.AUTO,
    ) -> None:
        """Load a model; what is None is the model's own choice, else mean pooling and so on.

        Raises `ModelError`, `OptionError` or `MissingPackageError`.
        """
        bound_memory()
        folder = find_model(model, revision=revision)
        self._device = choose_device(device)
        self.dtype = choose_dtype(precision, self._device)
        module = load_model(folder, device=self._device, dtype=self.dtype)
        tokenizer = load_tokenizer(folder)
        self._pooling = pooling or _own_pooling(folder)
        max_length = choose_max_length(folder, module, tokenizer, max_length)
        self._tokenizer = TextTokenizer(
            tokenizer,
            template=Template.parse(template, mask_token=tokenizer.mask_token),
            max_length=max_length,
            needs_mask=self._pooling is Pooling.MASK,
        )
        self._pad_id = tokenizer.pad_token_id or 0
        self._lock = threading.Lock()
        with torch.inference_mode():
            self._states = HiddenStates(module, self._to_inputs(self._tokenizer.probe(_PROBE)))
        is_gpu = self._device.type == "cuda"
        self._settings = EncoderSettings(
            model=folder.name,
            revision=folder.revision,
            pooling=self._pooling,
            template=template,
            max_length=max_length,
            depth=self._states.depth,
            width=self._states.width,
            fingerprint=fingerprint(
                folder.path, pooling=self._pooling, template=template, max_length=max_length
            ),
            token_budget=token_budget or (GPU_TOKEN_BUDGET if is_gpu else CPU_TOKEN_BUDGET),
            window=window,
        )

    @classmethod
    def for_index(
        cls,
        settings: EncoderSettings,
        *,
        device: str,
        precision: Precision,
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
            token_budget=settings.token_budget,
            window=settings.window,
            device=device,
            precision=precision,
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
        vectors (n_layers, n, width) float16, layers ascending.
        """
        layers = resolve_layers(layers, depth=self._settings.depth)
        places: dict[str, int] = {}
        place = np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)
        with self._lock, torch.inference_mode():
            tokens = self._tokenizer.tokenize(list(places))
            vectors = self._encode_tokens(tokens, layers)
        return Encoded(vectors[:, place], tokens.lengths[place], tokens.truncated[place])

    def _encode_tokens(self, tokens: Tokens, layers: tuple[int, ...]) -> NDArray[np.float16]:
        lengths = tokens.lengths
        if not lengths.all():
            raise ModelError("a text gave no tokens at all, and this model adds none")
        n, width = len(lengths), self._settings.width
        vectors = np.empty((len(layers), n, width), dtype=np.float16)
        slots = {layer: i for i, layer in enumerate(layers)}
        for batch in plan_batches(lengths, token_budget=self._settings.token_budget):
            for layer, pooled in self._pool_batch(tokens, batch, layers).items():
                vectors[slots[layer], batch] = pooled.half().cpu().numpy()
        if not np.isfinite(vectors).all() or not vectors.any(axis=-1).all():
            raise ModelError(f"the model {self._settings.model!r} gave vectors without a direction")
        return vectors

    def _pool_batch(
        self, tokens: Tokens, batch: NDArray[np.int64], layers: tuple[int, ...]
    ) -> dict[int, Tensor]:
        inputs = self._to_inputs([tokens.ids[i] for i in batch])
        positions = None
        if tokens.mask_positions is not None:
            positions = torch.from_numpy(tokens.mask_positions[batch]).to(self._device)
        pooled: dict[int, Tensor] = {}

        def receive(layer: int, states: Tensor) -> None:
            mask = inputs["attention_mask"]
            pooled[layer] = pool(states, mask, self._pooling, mask_positions=positions)

        self._states.run(inputs, layers, receive)
        return pooled

    def _to_inputs(self, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        longest = max(len(one) for one in ids)
        input_ids = torch.full((len(ids), longest), self._pad_id, dtype=torch.long)
        mask = torch.zeros((len(ids), longest), dtype=torch.long)
        for i, one in enumerate(ids):
            input_ids[i, : len(one)] = torch.tensor(one)
            mask[i, : len(one)] = 1
        return {"input_ids": input_ids.to(self._device), "attention_mask": mask.to(self._device)}


def _own_pooling(folder: ModelFolder) -> Pooling:
    if isinstance(folder.pooling, Pooling):
        return folder.pooling
    if folder.pooling is not None:
        raise OptionError(
            f"the model {folder.name!r} was made for pooling {folder.pooling!r}, which is none of "
            f"{', '.join(Pooling)}: choose one with --pooling"
        )
    return Pooling.MEAN
