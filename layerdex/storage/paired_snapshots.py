"""Two indexes asked at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from layerdex.storage.directory import SEGMENTS
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store

T = TypeVar("T")


def query_both(first: Store, second: Store, question: Callable[[Snapshot, Snapshot], T]) -> T:
    """Answer ``question`` from the newest commit of each of two indexes.

    As in `Store.ask` it starts again, on both, where a compaction took a file of either away. An
    index beside itself is asked at one commit: two would differ by whatever came between.
    """
    if first.path == second.path:
        return first.query(lambda snapshot: question(snapshot, snapshot))
    stores = (first, second)
    held_layers: list[tuple[int, ...]] = [(), ()]
    while True:
        with first.read() as one, second.read() as other:
            snapshots = (one, other)
            try:
                for snapshot, layers in zip(snapshots, held_layers, strict=True):
                    snapshot.hold(layers)
                return question(one, other)
            except FileNotFoundError as error:
                gone = Path(str(error.filename))
                of = [i for i in (0, 1) if gone.is_relative_to(stores[i].path / SEGMENTS)]
                if not of:  # a callback's, which is not ours to explain
                    raise
                missing, at = error, of[0]
        stores[at].check_missing(missing, snapshots[at].mark)
        held_layers[at] = stores[at].layers
