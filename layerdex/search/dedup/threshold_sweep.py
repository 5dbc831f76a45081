"""Near duplicates at many thresholds from one pass over all pairs, beside random pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Keep
from layerdex.errors import OptionError
from layerdex.records import Document, LayerName, OnProgress
from layerdex.search.dedup.greedy import find_duplicates, leaders_of
from layerdex.search.knn.close_pairs import ClosePairs, find_close_pairs
from layerdex.search.knn.random_pairs import N_PAIRED, compare_pairs, percentiles_of
from layerdex.search.knn.sampling import sample_texts
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.plots.threshold_curves import draw_thresholds
from layerdex.search.targets import SearchTarget
from layerdex.search.vectors.similarity import SIMILARITY_STEP, to_steps
from layerdex.storage.snapshot import DocumentTable, Snapshot
from layerdex.storage.vectors.layer_vectors import VectorSource
from layerdex.tabular import NUMBER, WHOLE, Brief, Table, Tabular
from layerdex.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOWEST = "p99.9"
_N_MOST_STEPS = 15
_N_MOST_BINS = 24
_WIDTHS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_N_SHOWN = 3
_DECIMALS = 5


@dataclass(frozen=True, slots=True, repr=False)
class BorderlinePair(Brief):
    """Two documents with different texts whose similarity barely reaches a threshold."""

    similarity: float
    ids: tuple[str, str]
    texts: tuple[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class SweepStep(Brief):
    """What `deduplicate` does at one threshold.

    ``n_near`` documents are removed besides the exact duplicates, ``n_kept`` are kept.
    ``random_share`` is the share of random pairs at or above the threshold. ``borderline`` are the
    pairs closest to it, at or above it and below the next threshold, at most 3.
    """

    threshold: float
    random_share: float
    n_near: int
    n_kept: int
    borderline: tuple[BorderlinePair, ...]


@dataclass(frozen=True, slots=True, repr=False)
class ThresholdSweep(Tabular):
    """Similarities at one layer, and removals at ascending thresholds.

    Of ``n`` documents ``n_exact`` are exact duplicates, removed at any threshold; ``nearest`` is
    the similarity of each readable one of the ``n_texts`` others to the nearest of them, float32 in
    keep order, within one `SIMILARITY_STEP`.
    ``percentiles`` are of random pairs among ``n_paired`` of the documents, by names such as
    ``p99.9``. The ``steps`` begin where random pairs end (p99.9), or above, where too many pairs
    are that close to be kept in memory (5 million), or at the lowest of ``nearest``, where no pair
    is that close; the last is always at 1.
    """

    target: SearchTarget
    keep: Keep
    n: int
    n_texts: int
    n_exact: int
    n_paired: int
    percentiles: Mapping[str, float]
    nearest: NDArray[np.float32]
    steps: tuple[SweepStep, ...]

    @property
    def layer(self) -> LayerName:
        """The layer, or the name of the layers fused."""
        return self.target.name

    @property
    def valley(self) -> float | None:
        """Where near duplicates separate from other documents: a first threshold, or None.

        The upper bound of the emptiest bin of the `histogram` between its mode and the highest
        bin above that, if the latter is higher by more than three standard errors of counts.
        """
        bounds, counts = self.histogram()
        mode = int(counts.argmax())
        low = mode + int(counts[mode:].argmin())
        highest = counts[low:].max()
        is_clear = highest - counts[low] > 3 * np.sqrt(highest + counts[low])
        return float(bounds[low + 1]) if is_clear else None

    def histogram(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return bounds (n_bins + 1,) up to 1, and how many of ``nearest`` lie between each two.

        A bin includes its lower bound, and the last one both. There are at most as many bins as
        the square root of the number of texts: more of them would mostly be empty.
        """
        n_most = min(ceil(sqrt(len(self.nearest))), _N_MOST_BINS)
        bounds = _round_numbers(float(self.nearest.min()), n_most, from_below=True)
        counts, _ = np.histogram(self.nearest.astype(np.float64), bounds)
        return bounds, counts

    def plot(self) -> Figure:
        """Draw the histogram above and the removals by threshold below, and return the figure."""
        return draw_thresholds(
            self.histogram(),
            self.percentiles,
            [(step.threshold, step.n_near) for step in self.steps],
            n_texts=self.n_texts,
            similarity=f"similarity at layer {self.layer}",
        )

    def _summary(self) -> str:
        valley = "" if self.valley is None else f"; near duplicates from about {self.valley:g}"
        documents = counted(self.n, "document")
        return f"{documents}, {self.n_exact:,} exact duplicates, {self.target.title}{valley}"

    def _table(self) -> Table:
        dtypes = {"threshold": NUMBER, "random_share": NUMBER, "n_near": WHOLE, "n_kept": WHOLE}
        rows = [{name: getattr(step, name) for name in dtypes} for step in self.steps]
        return Table(dtypes, len(rows), rows)


def sweep_thresholds(
    snapshot: Snapshot,
    *,
    space: VectorSpace,
    keep: Keep = Keep.FIRST,
    on_progress: OnProgress | None = None,
) -> ThresholdSweep:
    """Compare each two of the matching documents once, and count removals at each threshold.

    The counts are those of `find_duplicates` run at the threshold: its greedy choice is repeated
    for all thresholds over the close pairs. Unreadable texts are kept at every threshold, and left
    out of ``nearest``. Raises `OptionError` for fewer than two texts.
    """
    drawn = sample_texts(snapshot, space.target.where, n=N_PAIRED)
    source = space.vectors(snapshot.layer)
    random_pairs = compare_pairs(source, drawn.rows)
    percentiles = percentiles_of(random_pairs)
    table = snapshot.document_table(space.target.where)
    leaders = leaders_of(table, keep)
    firsts = leaders[~table.unreadable[leaders]]
    if len(firsts) < 2:
        raise OptionError("a threshold needs two texts that the tokenizer can read")
    rows = table.rows[firsts]
    pairs = find_close_pairs(source, rows, percentiles[_LOWEST], on_progress=on_progress)
    thresholds = _thresholds(pairs.min_step)
    if not np.any(pairs.steps >= to_steps(thresholds[0])) and pairs.min_step <= to_steps(1):
        # Among so few documents even the closest pair is one of the random ones.
        pairs = find_close_pairs(source, rows, float(pairs.nearest.min()), on_progress=on_progress)
        thresholds = _thresholds(pairs.min_step)
    shares = [float(np.mean(to_steps(random_pairs) >= to_steps(one))) for one in thresholds]
    if pairs.min_step > to_steps(1):
        n_kept, borderline = _at_one(snapshot, source, table, keep)
    else:
        n_unreadable = len(leaders) - len(firsts)
        n_kept = n_unreadable + _count_kept(pairs, to_steps(thresholds), len(firsts))
        borderline = _borderline(snapshot, table, firsts, pairs, thresholds)
    return ThresholdSweep(
        target=space.target,
        keep=keep,
        n=len(table.rows),
        n_texts=len(leaders),
        n_exact=len(table.rows) - len(leaders),
        n_paired=len(drawn.rows),
        percentiles=percentiles,
        nearest=pairs.nearest,
        steps=tuple(
            SweepStep(float(threshold), share, len(leaders) - int(n), int(n), shown)
            for threshold, share, n, shown in zip(
                thresholds, shares, n_kept, borderline, strict=True
            )
        ),
    )


def _thresholds(floor: int) -> NDArray[np.float64]:
    floor = min(floor, int(to_steps(1)))
    found = _round_numbers(floor * SIMILARITY_STEP, _N_MOST_STEPS, from_below=False)
    return found[to_steps(found) >= floor]


def _round_numbers(low: float, n_most: int, *, from_below: bool) -> NDArray[np.float64]:
    """Return at most n_most + 2 round numbers from a similarity to 1, ascending, even."""
    width = next(w for w in _WIDTHS if (1 - low) / w <= n_most)
    n_below = (1 - low) / width
    n = int(np.ceil(n_below - 1e-9)) if from_below else int(np.floor(n_below + 1e-9))
    return np.round(1 - width * np.arange(max(n, int(from_below)), -1, -1), _DECIMALS)


def _count_kept(pairs: ClosePairs, thresholds: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Return how many of n documents stay at each threshold (in steps), one after the other.

    A document goes if an earlier one that stays is at least as close as the threshold.
    """
    stays = np.ones((n, len(thresholds)), dtype=np.bool_)
    ends = np.flatnonzero(np.diff(pairs.later, append=-1)) + 1
    start = 0
    for end in ends.tolist():
        within = slice(start, end)
        is_close = pairs.steps[within, None] >= thresholds
        stays[pairs.later[start]] = ~(stays[pairs.earlier[within]] & is_close).any(axis=0)
        start = end
    counts: NDArray[np.int64] = stays.sum(axis=0)
    return counts


def _at_one(
    snapshot: Snapshot, source: VectorSource, table: DocumentTable, keep: Keep
) -> tuple[NDArray[np.int64], list[tuple[BorderlinePair, ...]]]:
    """Deduplicate at 1, where even the pairs of equal vectors are too many to be kept.

    Return how many stay, (1,), and the first pairs.
    """
    once = find_duplicates(source, table, threshold=1, keep=keep)
    near = np.flatnonzero(~once.is_exact)[:_N_SHOWN]
    pairs = list(zip(once.kept_for[near].tolist(), once.removed[near].tolist(), strict=True))
    documents = snapshot.documents({row for pair in pairs for row in pair})
    shown = tuple(
        _describe(documents[one], documents[other], float(similarity))
        for (one, other), similarity in zip(pairs, once.similarities[near], strict=True)
    )
    return np.array([len(once.kept)]), [shown]


def _borderline(
    snapshot: Snapshot,
    table: DocumentTable,
    firsts: NDArray[np.int64],
    pairs: ClosePairs,
    thresholds: NDArray[np.float64],
) -> list[tuple[BorderlinePair, ...]]:
    order = np.lexsort((pairs.earlier, pairs.later, pairs.steps))
    starts = np.searchsorted(pairs.steps[order], to_steps(thresholds))
    ends = np.append(starts, len(order))[1:]
    chosen = [order[i : min(i + _N_SHOWN, end)] for i, end in zip(starts, ends, strict=True)]
    rows = table.rows[firsts]
    shown = np.concatenate([np.empty(0, np.int64), *chosen])
    documents = snapshot.documents(
        {int(row) for side in (pairs.earlier, pairs.later) for row in rows[side[shown]]}
    )

    def describe(pair: int) -> BorderlinePair:
        one, other = (documents[int(rows[side[pair]])] for side in (pairs.earlier, pairs.later))
        return _describe(one, other, int(pairs.steps[pair]) * SIMILARITY_STEP)

    return [tuple(describe(pair) for pair in of_one.tolist()) for of_one in chosen]


def _describe(one: Document, other: Document, similarity: float) -> BorderlinePair:
    return BorderlinePair(round(similarity, _DECIMALS), (one.id, other.id), (one.text, other.text))
