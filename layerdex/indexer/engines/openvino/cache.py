"""The cache of converted models: graphs, their model specs, and their agreement with torch."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Pooling
from layerdex.indexer.engines.protocol import Batch, ModelSpec
from layerdex.indexer.models.fingerprint import cache_folder, model_digest
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.indexer.models.sealed_json import dump_sealed, load_sealed
from layerdex.indexer.text.tokenizer import TokenizerSpec
from layerdex.storage.files import checksum, sync_file

logger = logging.getLogger(__name__)

# Increase it when the conversion changes, so that older graphs are not used.
_GRAPH_VERSION = 4
_GRAPH, _WEIGHTS, _SPEC, _PROBE = "graph.xml", "graph.bin", "spec.json", "probe.npz"
# The fields of a batch, by the names of their arrays in the probe file.
_BATCH_ARRAYS = {"places": "indices", "ids": "ids", "mask": "mask"}
_UNFINISHED = ".new-"
_DAY_S = 86_400


def import_openvino() -> Any:
    """Import OpenVINO with its telemetry disabled."""
    if "openvino" not in sys.modules:
        # The import of the optional telemetry then fails, and OpenVINO uses a stub.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


class CachedGraph:
    """A model's graph with one pooled output per layer, converted from torch.

    ``is_converted`` is False for a model that OpenVINO cannot convert, which is cached too.
    """

    def __init__(self, folder: Path) -> None:
        """Open a cache folder.

        Raises OSError, ValueError, KeyError or TypeError if it is damaged.
        """
        content = load_sealed((folder / _SPEC).read_bytes())
        self.folder = folder
        self.is_converted: bool = content["is_converted"]
        spec = content["spec"]
        self.spec = ModelSpec(**{**spec, "tokenizer": TokenizerSpec(**spec["tokenizer"])})
        # A flipped byte in the weights would change vectors without any other sign.
        for name, expected in content["crc32"].items():
            with (folder / name).open("rb") as file:
                if checksum(file) != expected:
                    raise ValueError(f"{folder / name} has the wrong checksum")

    @property
    def path(self) -> Path:
        """The file of the graph; its weights are in another file beside it."""
        return self.folder / _GRAPH

    def agreement(self, key: str) -> float | None:
        """Return the lowest cosine to torch that was recorded for ``key``, if any."""
        try:
            return float(self._agreement_path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def record_agreement(self, key: str, cosine: float) -> None:
        """Record the lowest cosine to torch for ``key``, unless the cache is read-only."""
        logger.info("OpenVINO, %s: lowest cosine to torch %.7f", key, cosine)
        with (
            contextlib.suppress(OSError),
            tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False) as file,
        ):
            file.write(repr(cosine))
            file.close()
            Path(file.name).replace(self._agreement_path(key))

    def reference(self) -> tuple[NDArray[np.float32], list[Batch]]:
        """Return torch's vectors of the probe texts, (depth + 1, n, width), and their batches."""
        with np.load(self.folder / _PROBE, allow_pickle=False) as probe:
            batches = [
                Batch(
                    indices=probe[f"places_{i}"],
                    ids=probe[f"ids_{i}"],
                    mask=probe[f"mask_{i}"],
                    mask_positions=probe.get(f"mask_positions_{i}"),
                )
                for i in range(int(probe["n_batches"]))
            ]
            return probe["vectors"], batches

    def _agreement_path(self, key: str) -> Path:
        return self.folder / f"agreement-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def graph_folder(folder: ModelFolder, pooling: Pooling) -> Path:
    """Return the folder of a model's graph, named by a digest of everything that decides it."""
    versions = [version(name) for name in ("openvino", "torch", "transformers")]
    model = model_digest(folder.path, folder.adapter)
    key = json.dumps([_GRAPH_VERSION, versions, model, pooling.value])
    return cache_folder() / "openvino" / hashlib.sha256(key.encode()).hexdigest()[:32]


def temporary_graph_folder() -> Path:
    """Return a folder for a graph that cannot be cached, which is removed when Python exits.

    Raises OSError.
    """
    folder = Path(tempfile.mkdtemp(prefix="layerdex-"))
    atexit.register(_remove_own, folder, os.getpid())
    return folder / "graph"


def _remove_own(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a forked process, which may end earlier
        shutil.rmtree(folder, ignore_errors=True)


def find_graph(target: Path) -> CachedGraph | None:
    """Open a cached graph; None if it is missing, or damaged, in which case it is removed."""
    if not target.exists():
        return None
    try:
        return CachedGraph(target)
    except (OSError, ValueError, KeyError, TypeError):
        logger.warning("the cached graph in %s is damaged: converting again", target)
        with (
            tempfile.TemporaryDirectory(dir=target.parent, prefix=_UNFINISHED) as aside,
            contextlib.suppress(FileNotFoundError),  # another process was faster
        ):
            target.rename(Path(aside) / "damaged")
        return None


@contextlib.contextmanager
def new_graph_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder, and rename it to ``target`` once it is filled.

    Raises OSError if the cache cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(target.parent)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=_UNFINISHED))
    try:
        yield folder
        for file in folder.iterdir():
            sync_file(file)
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():  # otherwise another process has made the same
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_graph(
    folder: Path,
    graph: Any,
    *,
    spec: ModelSpec,
    batches: Sequence[Batch],
    vectors: NDArray[np.float32],
) -> None:
    """Write the files of a `CachedGraph`; ``graph`` is None for a model that was not converted."""
    if graph is not None:
        import_openvino().save_model(graph, folder / _GRAPH, compress_to_fp16=False)
    arrays: dict[str, NDArray[Any]] = {"vectors": vectors, "n_batches": np.array(len(batches))}
    for i, batch in enumerate(batches):
        arrays |= {f"{name}_{i}": getattr(batch, field) for name, field in _BATCH_ARRAYS.items()}
        if batch.mask_positions is not None:
            arrays[f"mask_positions_{i}"] = batch.mask_positions
    with (folder / _PROBE).open("wb") as probe:
        np.savez(probe, **arrays)  # type: ignore[arg-type]
    crc32 = {}
    for name in (_PROBE,) if graph is None else (_PROBE, _GRAPH, _WEIGHTS):
        with (folder / name).open("rb") as file:
            crc32[name] = checksum(file)
    content = {"spec": asdict(spec), "is_converted": graph is not None, "crc32": crc32}
    (folder / _SPEC).write_text(dump_sealed(content), encoding="utf-8")


def _remove_unfinished(folder: Path) -> None:
    for leftover in folder.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _DAY_S:
                shutil.rmtree(leftover, ignore_errors=True)
