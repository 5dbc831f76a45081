"""Model folders as sentence-transformers writes them, now and in earlier versions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MEAN = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
"""The file of a Pooling module, as most models on hubs have it."""


def to_sentence_model(
    folder: Path,
    *,
    place: str = "",
    settings: dict[str, Any] | None = None,
    settings_file: str = "sentence_bert_config.json",
    pooling: dict[str, Any] | None = None,
    others: Sequence[str] = (),
    config: dict[str, Any] | None = None,
) -> Path:
    """Add the files of sentence-transformers to a model's folder, and return the folder.

    The Transformer moves to the folder ``place`` within it; ``others`` are modules after Pooling,
    by the name of their class.
    """
    transformer = folder / place
    if place:
        files = list(folder.iterdir())
        transformer.mkdir()
        for file in files:
            shutil.move(file, transformer / file.name)
    kinds = ["Transformer", "Pooling", *others]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else place,
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    _write(folder / "modules.json", modules)
    _write(folder / "1_Pooling" / "config.json", MEAN if pooling is None else pooling)
    if settings is not None:
        _write(transformer / settings_file, settings)
    if config is not None:
        _write(folder / "config_sentence_transformers.json", config)
    return folder


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
