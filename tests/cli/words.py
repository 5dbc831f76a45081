"""A stand-in for the real encoder behind the command line, and what it should find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import LongText, Pooling
from layerdex.errors import OptionError
from layerdex.options import EncoderOptions, RuntimeOptions
from layerdex.records import Encoded, EncoderSettings
from tests.encoders import CountingWordEncoder

MAX_LENGTH = 12
WINDOW = 8


class WordTransformer(CountingWordEncoder):
    """`CountingWordEncoder` with the constructor of `TransformerEncoder`."""

    depth = 3

    def __init__(
        self,
        options: EncoderOptions = EncoderOptions(),  # noqa: B008 - frozen
        *,
        runtime: RuntimeOptions = RuntimeOptions(),  # noqa: ARG002, B008
        token_budget: int | None = None,
        window: int = WINDOW,
    ) -> None:
        super().__init__(depth=self.depth, window=window)
        resolved = replace(
            options,
            model=options.model or "minilm",
            pooling=options.pooling or Pooling.MEAN,
            template="{text}" if options.template is None else options.template,
            max_length=options.max_length or MAX_LENGTH,
            long=options.long or LongText.TRUNCATE,
        )
        if str(resolved.template).count("{text}") != 1:
            raise OptionError(f"template {resolved.template!r} must contain {{text}} exactly once")
        deciding = replace(resolved, revision=None)
        self.settings = replace(
            self.settings,
            **asdict(resolved),
            token_budget=token_budget or self.settings.token_budget,
            fingerprint="/".join(map(str, deciding.chosen().values())),
        )

    @classmethod
    def for_index(
        cls,
        settings: EncoderSettings,
        *,
        runtime: RuntimeOptions,
        model: str | None = None,
        adapter: str | None = None,
        calibration: str | None = None,  # noqa: ARG003
    ) -> Self:
        options = replace(
            settings.options(),
            model=model or settings.model,
            adapter=adapter or settings.adapter,
        )
        return cls(
            options, runtime=runtime, token_budget=settings.token_budget, window=settings.window
        )

    def notes(self, *, query_template: str | None = None) -> list[str]:  # noqa: ARG002
        return []

    def with_template(self, template: str) -> Self:
        other = type(self)(EncoderOptions(model=self.settings.model, template=template))
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
    encoder = WordTransformer(EncoderOptions(template=template))
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
