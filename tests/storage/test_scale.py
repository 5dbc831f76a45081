"""A large index opens without reading its vectors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import Index
from layerdex.storage.catalog.changes import NewVersion
from layerdex.storage.store import Store
from layerdex.storage.vectors.layer_file import LayerFile
from tests.encoders import WordEncoder
from tests.results import first

_N, _N_LAYERS, _WIDTH = 20_000, 7, 16


def _version(number: int) -> NewVersion:
    text = f"text {number}"
    return NewVersion(
        id=f"d{number}",
        text=text,
        label=None,
        metadata={},
        content_hash=hashlib.sha256(text.encode()).digest(),
        n_tokens=2,
        truncated=False,
        n_unknown=None,
        unreadable=False,
        replaces=None,
    )


def test_opening_many_documents_maps_no_layer_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = WordEncoder(depth=_N_LAYERS - 1, width=_WIDTH)
    store = Store.create(tmp_path / "index", encoder.settings, tuple(range(_N_LAYERS)))
    random = np.random.default_rng(0)
    vectors = random.standard_normal((_N_LAYERS, _N, _WIDTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    with store.write() as writer:
        writer.commit([_version(number) for number in range(_N)], vectors)

    mapped: list[str] = []
    whole = LayerFile.__init__

    def init(self: LayerFile, path: Path, *recorded: Any, **options: Any) -> None:
        mapped.append(path.name)
        whole(self, path, *recorded, **options)

    monkeypatch.setattr(LayerFile, "__init__", init)
    index = Index.open(tmp_path / "index", encoder=encoder)
    assert (len(index), index.info().n_documents, mapped) == (_N, _N, [])
    query = encoder.encode(["text 7"], (5,)).vectors[0, 0].astype(np.float64)
    assert (
        first(index.search("text 7", layer=5, k=1))[0].id
        == f"d{int((vectors[5] @ query).argmax())}"
    )
    assert mapped == ["layer-05.faiss"]
