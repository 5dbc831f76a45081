"""Rebuilding damaged layer files by encoding their segments' texts again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from layerdex.errors import DamagedIndexError
from layerdex.indexer.text.windows import split_windows
from layerdex.records import Encoder, OnProgress, progress_of_shares
from layerdex.storage.catalog.checks import CatalogCheck
from layerdex.storage.files import free_bytes
from layerdex.storage.maintenance.verify import (
    Problem,
    damaged_layers,
    restore_layers,
    segment_texts,
)
from layerdex.storage.store import Store
from layerdex.storage.vectors.codecs import Codes
from layerdex.storage.vectors.layer_vectors import Segment
from layerdex.storage.writer import Writer, check_shape

_SHARE_OF_DISK = 0.75
"""Of what is free: the commit needs some, and others may write too."""

_MOST_FILES = 64
"""A process may often have 1,024 open, or 256."""


def repair(
    store: Store,
    problems: Sequence[Problem],
    load_encoder: Callable[[], Encoder],
    *,
    lock_timeout_s: float = 10.0,
    on_progress: OnProgress | None = None,
) -> int:
    """Rebuild the layer files among ``problems``; return how many were rebuilt.

    Only damaged layers of damaged segments are encoded. The same engine gives the same bytes for
    a segment that was never merged, or merged of whole windows of new documents; for any other it
    gives vectors within the tolerance.

    A damaged head or transform is left as it is. Raises `DamagedIndexError` for problems of the
    catalog; only a wrong checksum of the whole file is repaired, if all rows are intact, which is
    checked again while the writer's lock is held.
    """
    in_catalog = [
        problem for problem in problems if problem.segment is None and problem.artifact is None
    ]
    for problem in in_catalog:
        if not problem.is_repairable:
            raise DamagedIndexError(f"the catalog is damaged ({problem}): restore a backup")
    damaged = damaged_layers(problems)
    n_files = 0
    # The writer renews a wrong seal when it is done, if all rows are intact.
    check = CatalogCheck.ROWS if in_catalog else CatalogCheck.SEAL
    with store.write(lock_timeout_s=lock_timeout_s, check=check) as writer:
        existing = {segment.name for segment in writer.segments()}
        damaged = {name: entry for name, entry in damaged.items() if name in existing}
        sizes = [segment.n_documents for segment, _ in damaged.values()]
        told = progress_of_shares(on_progress, sizes, sum(sizes))
        for tell, (segment, found) in zip(told, damaged.values(), strict=True):
            texts, groups = segment_texts(writer, segment), _groups(writer, segment, found)
            parts = progress_of_shares(tell, list(map(len, groups)), segment.n_documents)
            for tell_part, layers in zip(parts, groups, strict=True):
                windows = _encode(load_encoder(), texts, layers, store, tell_part)
                restore_layers(store, writer, segment, layers, windows)
            n_files += len(found)
    return n_files


def _groups(writer: Writer, segment: Segment, layers: Iterable[int]) -> list[list[int]]:
    """Return the layers to restore together, as many as there is room for beside the old files.

    One pass of the encoder serves a group. A single layer is tried whatever room there is.
    """
    left = sorted(layers)
    with writer.changing_files() as folder:
        n_bytes = free_bytes(folder) * _SHARE_OF_DISK
    n_together = int(n_bytes) // max(1, *(segment.files[layer].size_bytes for layer in left))
    n_together = min(max(n_together, 1), _MOST_FILES)
    return [left[start : start + n_together] for start in range(0, len(left), n_together)]


def _encode(
    encoder: Encoder,
    texts: Sequence[str],
    layers: Sequence[int],
    store: Store,
    on_progress: OnProgress | None,
) -> Iterator[list[Codes]]:
    """Yield the codes of each layer window by window, as a merged segment has many windows."""
    n_done = 0
    for window_texts in split_windows(texts, store.settings):
        vectors = encoder.encode(window_texts, layers).vectors
        check_shape(vectors, (len(layers), len(window_texts), store.settings.width))
        yield [store.codec.encode(of_layer) for of_layer in vectors]
        n_done += len(window_texts)
        if on_progress is not None:
            on_progress(n_done, len(texts))
