"""A converted model in the cache: its graph, its model spec, and its agreement with torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.indexer.cache.manifest import Manifest
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.protocol import Batch, ModelSpec
from layerdex.indexer.text.tokenizer import TokenizerSpec
from layerdex.records import Quantization
from layerdex.threads import Threads

logger = logging.getLogger(__name__)

UNFINISHED = ".new-"
"""How the names of folders begin that are not finished yet."""
_GRAPH, _WEIGHTS, _SPEC, _PROBE = "graph.xml", "graph.bin", "spec.json", "probe.npz"
# The fields of a batch, by the names of their arrays in the probe file.
_BATCH_ARRAYS = {"places": "indices", "ids": "ids", "mask": "mask"}
_COMPILED = "compiled-"


class CachedGraph:
    """A model's graph with one pooled output per layer, converted from torch.

    ``is_converted`` is False for a model that OpenVINO cannot convert, which is cached too.
    ``quantization`` says how a graph was quantised to int8; the vectors of its probe texts are its
    own, not torch's.
    """

    def __init__(self, folder: Path) -> None:
        """Open a cache folder.

        Raises OSError, ValueError, KeyError or TypeError if it is damaged.
        """
        self.folder = folder
        self._manifest = Manifest(folder)
        content = json.loads(self._manifest.check(_SPEC).read_bytes())
        self.is_converted: bool = content["is_converted"]
        spec = content["spec"]
        self.spec = ModelSpec(**{**spec, "tokenizer": TokenizerSpec(**spec["tokenizer"])})
        quantized = content.get("quantization")
        self.quantization = quantized and Quantization.from_setting(quantized)
        self._manifest.check(_PROBE)
        if self.is_converted:
            self._check_graph()

    def _check_graph(self) -> None:
        """Compare the graph with its checksums: one flipped byte of the weights changes vectors.

        Meanwhile OpenVINO is imported, which takes longer and is needed next.
        """
        with Threads(1, "layerdex-checksum") as threads:
            weights = threads.submit(self._manifest.check, _WEIGHTS)
            import_openvino()
            self._manifest.check(_GRAPH)
            weights.result()

    @property
    def path(self) -> Path:
        """The file of the graph; its weights are in another file beside it."""
        return self.folder / _GRAPH

    def agreement(self, key: str) -> float | None:
        """Return the lowest cosine to `reference` that was recorded for ``key``, if any."""
        try:
            return float(self._manifest.check(_agreement_name(key)).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def record_agreement(self, key: str, cosine: float) -> None:
        """Record the lowest cosine to `reference` for ``key``, unless the cache is read-only."""
        logger.info("OpenVINO, %s: lowest cosine to the reference %.7f", key, cosine)
        with contextlib.suppress(OSError):
            self._manifest.write(_agreement_name(key), repr(cosine).encode())

    @contextlib.contextmanager
    def compilation(self, key: str) -> Iterator[Path | None]:
        """Yield a folder for what OpenVINO caches of one compilation; it is kept for the next.

        OpenVINO believes what it finds there. So the folder is empty, or has what an earlier
        compilation left, byte for byte. None where the cache cannot be written and has nothing.
        """
        name, aside = _compiled_name(key), None
        try:
            self._manifest = Manifest(self.folder)  # another process may have compiled meanwhile
            is_held = self._manifest.holds(name)
            if not is_held:
                aside = tempfile.TemporaryDirectory(
                    dir=self.folder.parent, prefix=UNFINISHED, ignore_cleanup_errors=True
                )
        except (OSError, ValueError, KeyError, TypeError):
            is_held = False
        if is_held or aside is None:
            yield self.folder / name if is_held else None
            return
        if self._manifest.lists(name):
            logger.warning("the compiled graph in %s is damaged: compiling again", self.folder)
        with aside:
            compiled = Path(aside.name) / "compiled"
            yield compiled
            with contextlib.suppress(OSError):
                self._manifest.add(compiled, name)

    def forget_compilations(self) -> None:
        """Remove what OpenVINO has cached of all compilations, unless the cache is read-only."""
        for folder in self.folder.glob(f"{_COMPILED}*"):
            with contextlib.suppress(OSError):
                self._manifest.remove(folder.name)

    def reference(self) -> tuple[NDArray[np.float32], list[Batch]]:
        """Return the vectors of the probe texts, (depth + 1, n, width), and their batches.

        They are torch's, and in int8 those of the graph itself where it was made.
        """
        with np.load(self.folder / _PROBE, allow_pickle=False) as probe:
            batches = [
                Batch(
                    indices=probe[f"places_{i}"],
                    ids=probe[f"ids_{i}"],
                    mask=probe[f"mask_{i}"],
                    mask_positions=probe.get(f"mask_positions_{i}"),
                    spans=probe.get(f"spans_{i}"),
                )
                for i in range(int(probe["n_batches"]))
            ]
            return probe["vectors"], batches

    def probe(self) -> tuple[Batch, NDArray[np.float32]]:
        """Return the batch of one short probe text, and its vectors, (depth + 1, 1, width)."""
        vectors, batches = self.reference()
        return batches[-1], vectors[:, batches[-1].indices]


def write_graph(
    folder: Path,
    graph: Any,
    *,
    spec: ModelSpec,
    batches: Sequence[Batch],
    vectors: NDArray[np.float32],
    quantization: Quantization | None = None,
) -> None:
    """Write the files of a `CachedGraph`; ``graph`` is None for a model that was not converted."""
    if graph is not None:
        import_openvino().save_model(graph, folder / _GRAPH, compress_to_fp16=False)
    arrays: dict[str, NDArray[Any]] = {"vectors": vectors, "n_batches": np.array(len(batches))}
    for i, batch in enumerate(batches):
        arrays |= {f"{name}_{i}": getattr(batch, field) for name, field in _BATCH_ARRAYS.items()}
        if batch.mask_positions is not None:
            arrays[f"mask_positions_{i}"] = batch.mask_positions
        if batch.spans is not None:
            arrays[f"spans_{i}"] = batch.spans
    with (folder / _PROBE).open("wb") as probe:
        np.savez(probe, **arrays)  # type: ignore[arg-type]
    content: dict[str, Any] = {"spec": asdict(spec), "is_converted": graph is not None}
    if quantization is not None:
        content["quantization"] = asdict(quantization)
    (folder / _SPEC).write_text(json.dumps(content), encoding="utf-8")


def _agreement_name(key: str) -> str:
    return f"agreement-{_short_digest(key)}"


def _compiled_name(key: str) -> str:
    return f"{_COMPILED}{_short_digest(key)}"


def _short_digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]
