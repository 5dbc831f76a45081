"""An encoder of a tiny model, so that its vectors can be held to those of plain transformers."""

from __future__ import annotations

from pathlib import Path

from layerdex.choices import Dtype, EngineName, LongText, Pooling
from layerdex.indexer.encoder import DEFAULT_WINDOW, TransformerEncoder


def load(
    folder: Path,
    *,
    pooling: Pooling | None = None,
    template: str = "{text}",
    max_length: int | None = None,
    long: LongText = LongText.TRUNCATE,
    token_budget: int | None = None,
    window: int = DEFAULT_WINDOW,
    engine: EngineName = EngineName.TORCH,
    precision: Dtype = Dtype.FLOAT32,
    device: str = "cpu",
) -> TransformerEncoder:
    return TransformerEncoder(
        str(folder),
        pooling=pooling,
        template=template,
        max_length=max_length,
        long=long,
        token_budget=token_budget,
        window=window,
        engine=engine,
        precision=precision,
        device=device,
    )
