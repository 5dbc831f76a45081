"""An encoder of a tiny model, so that its vectors can be compared with plain transformers."""

from __future__ import annotations

from pathlib import Path

from layerdex.choices import Dtype, EngineName, LongText, Pooling
from layerdex.indexer.encoder import DEFAULT_WINDOW, TransformerEncoder
from layerdex.options import EncoderOptions, RuntimeOptions

TORCH = RuntimeOptions(engine=EngineName.TORCH, device="cpu", dtype=Dtype.FLOAT32)


def load(
    folder: Path,
    *,
    pooling: Pooling | None = None,
    template: str | None = None,
    max_length: int | None = None,
    long: LongText | None = None,
    token_budget: int | None = None,
    window: int = DEFAULT_WINDOW,
    engine: EngineName = EngineName.TORCH,
    dtype: Dtype = Dtype.FLOAT32,
    device: str = "cpu",
) -> TransformerEncoder:
    return TransformerEncoder(
        EncoderOptions(
            model=str(folder),
            pooling=pooling,
            template=template,
            max_length=max_length,
            long=long,
        ),
        runtime=RuntimeOptions(engine=engine, device=device, dtype=dtype),
        token_budget=token_budget,
        window=window,
    )
