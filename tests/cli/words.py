"""A stand-in for the real encoder behind the command line, and what it should find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Dtype, EngineName, LongText, Pooling
from layerdex.errors import OptionError
from layerdex.records import Encoded, EncoderSettings
from tests.encoders import WordEncoder

MAX_LENGTH = 12
WINDOW = 8


class WordTransformer(WordEncoder):
    """`WordEncoder` with the constructor of `TransformerEncoder`."""

    depth = 3

    def __init__(
        self,
        model: str = "minilm",
        *,
        revision: str | None = None,
        adapter: str | None = None,
        pooling: Pooling | None = None,
        template: str = "{text}",
        max_length: int | None = None,
        long: LongText = LongText.TRUNCATE,
        token_budget: int | None = None,
        window: int = WINDOW,
        device: str = "auto",  # noqa: ARG002 - the real one's keywords
        precision: Dtype = Dtype.AUTO,  # noqa: ARG002
        engine: EngineName = EngineName.AUTO,  # noqa: ARG002
    ) -> None:
        super().__init__(depth=self.depth, window=window)
        if template.count("{text}") != 1:
            raise OptionError(f"template {template!r} must contain {{text}} exactly once")
        self.settings = replace(
            self.settings,
            model=model,
            revision=revision,
            pooling=pooling or Pooling.MEAN,
            template=template,
            max_length=max_length or MAX_LENGTH,
            long=long,
            token_budget=token_budget or self.settings.token_budget,
            adapter=adapter,
            fingerprint=f"{model}/{adapter}/{pooling or Pooling.MEAN}/{template}"
            f"/{max_length or MAX_LENGTH}/{long}",
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
    ) -> Self:
        return cls(
            model or settings.model,
            revision=settings.revision,
            adapter=adapter or settings.adapter,
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

    def with_template(self, template: str) -> Self:
        other = type(self)(self.settings.model, template=template)
        other.encoded = self.encoded
        return other

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        template = self.settings.template
        return super().encode([template.replace("{text}", text) for text in texts], layers)


class DeepWordTransformer(WordTransformer):
    """As many layers as MiniLM, which the demo's commands name."""

    depth = 6


def similarities(
    queries: Sequence[str], texts: Sequence[str], layer: int, *, template: str = "{text}"
) -> NDArray[np.float64]:
    """Return the cosines of queries and texts as float16 keeps their vectors, (m, n)."""
    encoder = WordTransformer(template=template)
    q, v = (
        encoder.encode(x, [layer]).vectors[0].astype(np.float16).astype(np.float64)
        for x in (list(queries), texts)
    )
    q, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, v))
    return np.asarray(q @ v.T)


def nearest(
    query: str, documents: Sequence[dict[str, object]], layer: int, *, template: str = "{text}"
) -> list[tuple[str, float]]:
    """Return ids and similarities of all documents, the most similar first."""
    texts = [str(document["text"]) for document in documents]
    found = similarities([query], texts, layer, template=template)[0]
    order = np.argsort(-np.round(found, 5), kind="stable")
    return [(str(documents[i]["id"]), float(found[i])) for i in order]
