"""What an index should hold and answer, in dicts and NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.search.results import Deduplication, Hit
from tests.encoders import WordEncoder
from tests.hits import similarities_of

STEP = 1e-5
_ROUNDING = 2e-6


@dataclass(frozen=True)
class Entry:
    """A document; ``age`` counts the versions of all documents, in the order they were made."""

    text: str
    label: str | None
    size: int
    age: int


class Model:
    """Documents by id, in input order: an update keeps its place, as a dict does."""

    def __init__(self, *, window: int) -> None:
        self.entries: dict[str, Entry] = {}
        self._window = window
        self._n_versions = 0

    def add(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Entry]]:
        """Add rows of distinct ids; return the state after each window that changes something."""
        states: list[dict[str, Entry]] = []
        for start in range(0, len(rows), self._window):
            before = dict(self.entries)
            for row in rows[start : start + self._window]:
                self._add(row)
            if self.entries != before:
                states.append(dict(self.entries))
        return states

    def _add(self, row: dict[str, Any]) -> None:
        old = self.entries.get(row["id"])
        label = row.get("label", None if old is None else old.label)
        if old is not None and old.text == row["text"]:
            self.entries[row["id"]] = replace(old, label=label, size=row["size"])
            return
        self._n_versions += 1
        self.entries[row["id"]] = Entry(row["text"], label, row["size"], self._n_versions)

    def restore(self, entries: dict[str, Entry]) -> None:
        """Go back to an earlier state; ages stay unique."""
        self.entries = dict(entries)

    def ids(self, matches: Callable[[str, Entry], bool] = lambda *_: True) -> list[str]:
        return [name for name, entry in self.entries.items() if matches(name, entry)]

    def documents(self, ids: Sequence[str]) -> list[tuple[str, str, str | None, dict[str, int]]]:
        """Return id, text, label and metadata of documents, as an export has them."""
        found = [(name, self.entries[name]) for name in ids]
        return [(name, one.text, one.label, {"size": one.size}) for name, one in found]

    def check_hits(self, hits: list[Hit], query: str, k: int, layer: int, ids: list[str]) -> None:
        """Check a search among ``ids`` against every one of them."""
        assert len(hits) == min(k, len(ids))
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        found = [(hit.id, hit.text, hit.label, hit.metadata) for hit in hits]
        assert found == self.documents([hit.id for hit in hits])
        assert len({hit.id for hit in hits}) == len(hits)
        if not ids:
            return
        true = dict(zip(ids, _cosines([query], self._texts(ids), layer)[0], strict=True))
        near = similarities_of(hits)
        ages = [self.entries[hit.id].age for hit in hits]
        keys = [(-round(one / STEP), age) for one, age in zip(near, ages, strict=True)]
        assert keys == sorted(keys)
        for hit, one in zip(hits, near, strict=True):
            assert abs(one - true.pop(hit.id)) <= STEP / 2 + _ROUNDING
        assert max(true.values(), default=-1.0) <= near[-1] + STEP + _ROUNDING
        # Of documents with the text of the last hit, the oldest are taken.
        same = [i for i in true if self.entries[i].text == hits[-1].text]
        assert all(self.entries[i].age > self.entries[hits[-1].id].age for i in same)

    def check_duplicates(self, found: Deduplication, threshold: float, layer: int) -> None:
        """Check a deduplication that keeps the first: greedy, in input order."""
        ids = self.ids()
        texts = self._texts(ids)
        true = _cosines(texts, texts, layer) if texts else np.empty((0, 0))
        kept: list[int] = []
        exact: dict[str, bool] = {}
        for i in range(len(ids)):
            is_exact = texts[i] in texts[:i]
            # Two similarities in one step are equal, as of words in another order.
            if is_exact or (kept and true[i, kept].max() >= threshold - STEP / 2):
                exact[ids[i]] = is_exact
            else:
                kept.append(i)
        assert (found.n, list(found.kept)) == (len(ids), [ids[i] for i in kept])
        assert {removal.id: removal.is_exact for removal in found.removed} == exact
        for removal in found.removed:
            at = ids.index(removal.id)
            best = max(true[at, kept])
            assert abs(removal.similarity - best) <= STEP
            assert true[at, ids.index(removal.kept)] >= best - STEP

    def _texts(self, ids: Sequence[str]) -> list[str]:
        return [self.entries[name].text for name in ids]


def _cosines(queries: list[str], texts: list[str], layer: int) -> NDArray[np.float64]:
    """Return the cosine of each query with each text, both rounded as float16 indexes do."""
    encoder = WordEncoder()
    left, right = (
        encoder.encode(one, (layer,)).vectors[0].astype(np.float16).astype(np.float64)
        for one in (queries, texts)
    )
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.asarray(np.clip(left @ right.T, -1, 1))
