"""Converted models on this disk: the graph, what must be known of it, and how well it agrees."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.indexer.engine import Batch, ModelFacts
from layerdex.indexer.fingerprint import cache_folder, model_digest
from layerdex.indexer.models import ModelFolder
from layerdex.indexer.tokenizing import TokenizerFacts
from layerdex.records import Pooling

logger = logging.getLogger(__name__)

# Raised where the conversion changes, so that graphs of older versions are not used.
_GRAPH_VERSION = 1
PROBE = "probe.npz"
_GRAPH, _FACTS, _COMPILED = "graph.xml", "facts.json", "compiled"


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report each import to its makers."""
    if "openvino" not in sys.modules:
        # Makes the import of this optional part fail, for which OpenVINO has a stub.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


class CachedGraph:
    """A model's graph with one pooled output a layer, converted from torch.

    ``cosines`` is the worst agreement with torch by precision, for those that were tried.
    """

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / _FACTS).read_bytes())
        self._folder = folder
        self.cosines: dict[str, float] = content["cosines"]
        facts = content["facts"]
        self.facts = ModelFacts(**{**facts, "tokenizer": TokenizerFacts(**facts["tokenizer"])})
        self._graph: Any = None

    def record(self, precision: str, cosine: float) -> None:
        """Remember how well a precision agrees."""
        logger.info("OpenVINO in %s: worst cosine to torch %.7f", precision, cosine)
        self.cosines[precision] = cosine
        write_facts(self._folder, self.facts, self.cosines)

    def reference(self) -> tuple[NDArray[np.float32], list[Batch]]:
        """Return torch's vectors of the probe texts, (depth + 1, n, width), and their batches."""
        with np.load(self._folder / PROBE, allow_pickle=False) as probe:
            batches = [
                Batch(
                    places=probe[f"places_{i}"],
                    ids=probe[f"ids_{i}"],
                    mask=probe[f"mask_{i}"],
                    mask_positions=probe.get(f"mask_positions_{i}"),
                )
                for i in range(int(probe["n_batches"]))
            ]
            return probe["vectors"], batches

    def compile(self, ov: Any, layers: tuple[int, ...], config: Mapping[str, Any]) -> Any:
        """Return the graph, cut after the deepest of ``layers``, compiled for this CPU.

        OpenVINO keeps compiled graphs in this cache and finds out itself whether one fits.
        """
        core = ov.Core()
        core.set_property({"CACHE_DIR": str(self._folder / _COMPILED)})
        if self._graph is None:
            self._graph = core.read_model(self._folder / _GRAPH)
        # What no result needs is not part of the model: blocks above the deepest layer never run.
        outputs = [self._graph.output(layer) for layer in layers]
        part = ov.Model(outputs, self._graph.get_parameters(), f"layers {layers}")
        return core.compile_model(part, "CPU", dict(config))


def find_graph(folder: ModelFolder, pooling: Pooling) -> CachedGraph | None:
    """Return a model's converted graph, made now where there is none; None if that fails."""
    ov = import_openvino()
    key = json.dumps([_GRAPH_VERSION, ov.get_version(), model_digest(folder.path), pooling.value])
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    target = cache_folder() / "openvino" / name
    if not (target / _FACTS).exists():
        target = _convert(folder, pooling, target)
    graph = CachedGraph(target)
    return graph if (target / _GRAPH).exists() else None


def write_facts(folder: Path, facts: ModelFacts, cosines: Mapping[str, float]) -> None:
    """Write what `CachedGraph` reads; the file appears whole or not at all."""
    content = json.dumps({"facts": asdict(facts), "cosines": dict(cosines)})
    temporary = folder / f"{_FACTS}.{os.getpid()}"
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(folder / _FACTS)


def save_graph(ov: Any, graph: Any, folder: Path) -> None:
    """Write a converted graph with its weights as they are."""
    ov.save_model(graph, folder / _GRAPH, compress_to_fp16=False)


def _convert(folder: ModelFolder, pooling: Pooling, target: Path) -> Path:
    """Convert into a folder that appears whole; in one that goes, where the home is read-only."""
    from layerdex.indexer.openvino_graph import convert

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
    except OSError:
        made = target = Path(tempfile.mkdtemp(prefix="layerdex-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    try:
        convert(folder, pooling, made)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    if made == target:
        return target
    try:
        made.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(made)
    return target
