"""The cache of converted models: one folder for each, which appears whole or not at all."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from layerdex.choices import Pooling
from layerdex.indexer.cache.location import cache_folder, make_cache_folder
from layerdex.indexer.cache.manifest import Manifest
from layerdex.indexer.engines.openvino.cached_graph import UNFINISHED, CachedGraph
from layerdex.indexer.models.fingerprint import model_digest
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.indexer.quantization.calibration import Calibration
from layerdex.storage.files import sync_file

logger = logging.getLogger(__name__)

# Increase it when the conversion changes, so that older graphs are not used.
_GRAPH_VERSION = 5
_DAY_S = 86_400


def graph_folder(folder: ModelFolder, pooling: Pooling | None) -> Path:
    """Return the folder of a model's graph, named by a digest of everything that decides it."""
    versions = [version(name) for name in ("openvino", "torch", "transformers")]
    model = model_digest(folder.contents)
    key = json.dumps([_GRAPH_VERSION, versions, model, pooling or "spans"])
    return cache_folder("openvino") / hashlib.sha256(key.encode()).hexdigest()[:32]


def quantized_folder(target: Path, calibration: Calibration) -> Path:
    """Return the folder, beside that of a model's graph, of the graph quantised to int8."""
    key = json.dumps([target.name, *calibration.identity])
    return target.with_name(hashlib.sha256(key.encode()).hexdigest()[:32])


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
    """Open a cached graph; None if it is missing, or damaged, in which case it is removed.

    Raises OSError if it cannot be read, which says nothing of its content.
    """
    if not target.exists():
        return None
    try:
        return CachedGraph(target)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        logger.warning("the cached graph in %s is damaged: converting again", target)
        _discard_graph(target)
        return None


def _discard_graph(target: Path) -> None:
    """Remove a cached graph at once, as others may open it. Raises OSError."""
    with (
        tempfile.TemporaryDirectory(dir=target.parent, prefix=UNFINISHED) as aside,
        contextlib.suppress(FileNotFoundError),  # another process was faster
    ):
        target.rename(Path(aside) / "damaged")


@contextlib.contextmanager
def replaced_graph(target: Path) -> Iterator[Path]:
    """Yield a name for a new graph, which takes the place of the one in ``target`` at the end.

    Raises OSError.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=UNFINISHED) as folder:
        yield Path(folder) / target.name
        _discard_graph(target)
        (Path(folder) / target.name).rename(target)


@contextlib.contextmanager
def new_graph_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder, and rename it to ``target`` once it is filled.

    Raises OSError if the cache cannot be written.
    """
    make_cache_folder(target.parent)
    _remove_unfinished(target.parent)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=UNFINISHED))
    try:
        yield folder
        Manifest.create(folder, name=target.name)
        for file in folder.iterdir():
            sync_file(file)
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():  # otherwise another process has made the same
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_unfinished(folder: Path) -> None:
    for leftover in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _DAY_S:
                shutil.rmtree(leftover, ignore_errors=True)
