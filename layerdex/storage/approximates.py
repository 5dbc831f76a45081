"""What the catalog records of approximate indexes, and whether one still fits the documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerdex.storage.artifact_changes import keep_artifacts
from layerdex.storage.artifacts import APPROXIMATES, count_left, read_artifact_record
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.writer import Writer
from layerdex.wording import counted

_STALE_SHARE = 1 / 6


@dataclass(frozen=True, slots=True)
class Freshness:
    """How documents have changed since the approximate index of a layer was made of n of them.

    ``n_tail`` were added, ``n_dead`` removed; an update counts as both. ``is_of_index`` is whether
    their vectors have the same fingerprint.
    """

    layer: int
    n: int
    n_tail: int
    n_dead: int
    is_of_index: bool

    @property
    def is_stale(self) -> bool:
        """Whether it is not used any more."""
        return not self.is_of_index or max(self.n_tail, self.n_dead) > _STALE_SHARE * self.n

    @property
    def reason(self) -> str:
        """What makes it stale."""
        if not self.is_of_index:
            return "was made for vectors of another model"
        changed = f"{self.n_tail:,} added and {self.n_dead:,} removed"
        return f"was made of {counted(self.n, 'document')}, and {changed} since"


def read_approximates(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the records of a commit's approximate indexes; raises `DamagedIndexError`."""
    records = read_artifact_record(snapshot, APPROXIMATES)
    return [] if records is None else list(records)


def measure_freshness(
    snapshot: Snapshot, record: Mapping[str, Any], *, fingerprint: str
) -> Freshness:
    """Return how a commit's documents differ from those of an approximate index."""
    n_left = int(np.searchsorted(snapshot.rows(), record["next_row"]))
    return Freshness(
        record["layer"],
        record["n"],
        snapshot.n_documents - n_left,
        record["n"] - n_left,
        record["fingerprint"] == fingerprint,
    )


def remove_with_dead(snapshot: Snapshot, writer: Writer) -> list[dict[str, Any]]:
    """Remove the approximate indexes with vectors of removed documents; return their records.

    Raises `StorageError` or `DamagedIndexError`.
    """
    records = read_approximates(snapshot)
    gone = [record for record in records if count_left(snapshot, record) < record["n"]]
    if gone:
        keep_artifacts(writer, APPROXIMATES, [r for r in records if r not in gone])
    return gone
