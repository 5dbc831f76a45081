"""The approximate indexes stored with an index, as searches find them.

Each is of one layer and of the documents that were there when it was built. Documents added since
are compared exactly, and those removed are left out of its scan, until they are too many.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any
from weakref import WeakValueDictionary

from layerdex.errors import OptionError
from layerdex.forks import ForkLock
from layerdex.search.knn.approximate import ApproximateLayer, Measured
from layerdex.storage.approximates import measure_freshness, read_approximates
from layerdex.storage.artifacts import APPROXIMATES, artifact_damage, load_tensors
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from layerdex.storage.vectors.approximate import ApproximateIndex

_MOST_LOADED_BYTES = 2 << 30

N_LEAST = 20_000
"""Fewer documents are compared in a millisecond, which candidates alone would take."""

logger = logging.getLogger(__name__)


def check_is_large(n: int) -> None:
    """Raise `OptionError` for an index of n documents of which no approximate one is worth it."""
    if n < N_LEAST:
        raise OptionError(
            f"the index has {n:,} documents: exact search of fewer than {N_LEAST:,} is as fast as "
            "an approximate one"
        )


class LoadedApproximates:
    """The approximate indexes that an open index has loaded; those used least recently go first."""

    def __init__(self) -> None:
        self._by_file: dict[str, ApproximateLayer] = {}
        self._lock = ForkLock()
        # Of each file, for as long as a thread loads it or waits for it.
        self._loading: WeakValueDictionary[str, ForkLock] = WeakValueDictionary()

    def find(self, store: Store, snapshot: Snapshot, layer: int) -> ApproximateLayer | None:
        """Return the approximate index of a layer, None if there is none that fits the documents.

        A stale one is logged as a warning. Raises FileNotFoundError, as for an artifact that was
        replaced meanwhile, or `DamagedIndexError`.
        """
        records = read_approximates(snapshot)
        self._forget_others({record["file"] for record in records})
        for record in records:
            if record["layer"] != layer:
                continue
            fingerprint = store.settings.fingerprint
            state = measure_freshness(snapshot, record, fingerprint=fingerprint)
            if not state.is_stale:
                return self._get(store, record)
            command, aim = APPROXIMATES.remedy(str(store.path), record=record), "build it again"
            if snapshot.n_documents < N_LEAST:
                command, aim = (
                    f"layerdex accelerate {store.path} --layers {layer} --drop",
                    "remove it",
                )
            logger.warning(
                "the approximate index of layer %s is not used, and answers are exact: it %s. Run "
                "'%s' to %s",
                layer,
                state.reason,
                command,
                aim,
            )
        return None

    def _get(self, store: Store, record: Mapping[str, Any]) -> ApproximateLayer:
        """Return the index of a record, which several threads load once.

        Raises FileNotFoundError or `DamagedIndexError`.
        """
        file = record["file"]
        if (loaded := self._find_loaded(file)) is not None:
            return loaded
        with self._lock:
            loading = self._loading.setdefault(file, ForkLock())
        with loading:  # of this file alone: it takes long
            if (loaded := self._find_loaded(file)) is not None:
                return loaded
            loaded = _load(store, record)
            with self._lock:
                self._by_file[file] = loaded
                while len(self._by_file) > 1 and self._n_bytes() > _MOST_LOADED_BYTES:
                    del self._by_file[next(iter(self._by_file))]
            return loaded

    def _find_loaded(self, file: str) -> ApproximateLayer | None:
        with self._lock:
            loaded = self._by_file.pop(file, None)
            if loaded is not None:
                self._by_file[file] = loaded  # now the one used last
            return loaded

    def _forget_others(self, files: Collection[str]) -> None:
        """Drop what was loaded of files that were replaced or removed."""
        with self._lock:
            for file in self._by_file.keys() - files:
                del self._by_file[file]

    def _n_bytes(self) -> int:
        return sum(loaded.index.size_bytes for loaded in self._by_file.values())


def _load(store: Store, record: Mapping[str, Any]) -> ApproximateLayer:
    tensors = load_tensors(store.path, APPROXIMATES, record)
    try:
        made = ApproximateIndex.from_tensors(
            tensors,
            width=store.settings.width,
            n=record["n"],
            n_lists=record["n_lists"],
            span=record["next_row"] - record["first_row"],
        )
    except ValueError as error:
        path = store.path / APPROXIMATES.folder / record["file"]
        raise artifact_damage(APPROXIMATES, path, record) from error
    measured = tuple(Measured(**each) for each in record["measured"])
    first_row, next_row = record["first_row"], record["next_row"]
    return ApproximateLayer(made, record["layer"], record["file"], first_row, next_row, measured)
