"""Questions to the newest commit of an index, or of two, started again when a file is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Protocol, TypeVar

from layerdex.errors import DamagedIndexError
from layerdex.storage.artifacts import ARTIFACT_KINDS, artifact_damage, read_artifact_record
from layerdex.storage.directory import SEGMENTS
from layerdex.storage.snapshot import Snapshot

T = TypeVar("T")


class SnapshotSource(Protocol):
    """An open index: a `Store`."""

    path: Path
    layers: tuple[int, ...]

    def read(self) -> AbstractContextManager[Snapshot]:
        """Open the newest commit."""
        ...


def query_newest(stores: Sequence[SnapshotSource], question: Callable[..., T]) -> T:
    """Call ``question`` with a snapshot of the newest commit of each store.

    If a compaction removed a segment meanwhile, or a writer replaced an artifact, the question
    starts again from the newest commits. After a missing segment all layer files of that index are
    opened first: otherwise a writer of many small runs could take one away each time. Raises
    `DamagedIndexError` if a file is missing and no newer commit explains it.
    """
    held_layers: list[tuple[int, ...]] = [()] * len(stores)
    while True:
        with ExitStack() as stack:
            snapshots = [stack.enter_context(store.read()) for store in stores]
            try:
                for snapshot, layers in zip(snapshots, held_layers, strict=True):
                    snapshot.hold(layers)
                return question(*snapshots)
            except FileNotFoundError as error:
                at = _owner(stores, Path(str(error.filename)))
                if at is None:  # raised by a callback of the caller
                    raise
                missing = error
        check_missing(stores[at], missing, snapshots[at])
        if Path(missing.filename).is_relative_to(stores[at].path / SEGMENTS):
            held_layers[at] = stores[at].layers


def query_both(
    first: SnapshotSource, second: SnapshotSource, question: Callable[[Snapshot, Snapshot], T]
) -> T:
    """Call ``question`` with snapshots of the newest commits of two indexes; see `query_newest`.

    For an index and itself both are the same snapshot: two could differ by a commit in between.
    """
    if first.path == second.path:
        return query_newest([first], lambda snapshot: question(snapshot, snapshot))
    return query_newest([first, second], question)


def check_missing(store: SnapshotSource, missing: FileNotFoundError, snapshot: Snapshot) -> None:
    """Raise `DamagedIndexError` unless a commit newer than ``snapshot`` explains a missing file."""
    path = Path(missing.filename)
    with store.read() as newest:
        if newest.mark != snapshot.mark:
            return
        for kind in ARTIFACT_KINDS:
            if path.parent == store.path / kind.folder:
                records = kind.records(read_artifact_record(newest, kind))
                record = next((each for each in records if each["file"] == path.name), None)
                raise artifact_damage(kind, path, record) from missing
    raise DamagedIndexError(f"{path} is missing: run 'layerdex repair' on this index") from missing


def _owner(stores: Sequence[SnapshotSource], path: Path) -> int | None:
    """Return which of the stores has ``path`` among its segments or artifacts."""
    folders = (SEGMENTS, *(kind.folder for kind in ARTIFACT_KINDS))
    for at, store in enumerate(stores):
        if any(path.is_relative_to(store.path / folder) for folder in folders):
            return at
    return None
