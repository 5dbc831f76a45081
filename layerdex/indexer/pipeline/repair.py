"""Rebuilding damaged layer files by encoding their segments' texts again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from layerdex.errors import DamagedIndexError
from layerdex.indexer.text.windows import split_windows
from layerdex.records import Encoder, OnProgress, progress_of_shares
from layerdex.storage.catalog.checks import CatalogCheck
from layerdex.storage.maintenance.verify import (
    Problem,
    damaged_layers,
    restore_layers,
    segment_texts,
)
from layerdex.storage.store import Store
from layerdex.storage.vectors.codecs import Codes
from layerdex.storage.writer import check_shape


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
            texts, layers = segment_texts(writer, segment), sorted(found)
            windows = _encode(load_encoder(), texts, layers, store, tell)
            restore_layers(store, writer, segment, layers, windows)
            n_files += len(layers)
    return n_files


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
