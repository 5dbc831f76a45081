"""`Geometry`: label-free statistics of layers, and how far layers agree on neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.records import OnProgress, Vectors
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.knn.random_pairs import N_PAIRED, compare_pairs, percentiles_of
from layerdex.search.knn.sampling import sample_texts
from layerdex.search.knn.tiles.others import find_others
from layerdex.search.plots.heat_map import draw_heat_map
from layerdex.search.vectors.similarity import to_steps
from layerdex.storage.catalog.filters import Where
from layerdex.storage.snapshot import DocumentTable, Snapshot
from layerdex.storage.vectors.layer_vectors import VectorSource
from layerdex.tabular import NUMBER, WHOLE, Table, Tabular
from layerdex.threads import single_threaded_blas
from layerdex.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_SAMPLED = 10_000
_BLOCK = 2_048
_KEPT_SHARE = 0.9
_SAME = to_steps(1.0)


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Label-free statistics of one layer; the function of each names its source.

    ``effective_rank`` is from 1 to the width (`effective_rank`), ``anisotropy`` from about 0 to 1
    (`anisotropy`), ``hubness`` has no bound (`hubness`), and ``intrinsic_dimension`` is above 0,
    or None if all distances are equal (`two_nn`); it leaves out ``n_repeated`` vectors.
    ``percentiles`` are of the similarity of random pairs, by names such as ``p99.9``.
    """

    layer: int
    effective_rank: float
    anisotropy: float
    hubness: float
    intrinsic_dimension: float | None
    n_repeated: int
    percentiles: Mapping[str, float]


@dataclass(frozen=True, slots=True, repr=False)
class Geometry(Tabular):
    """Label-free statistics of layers.

    Of ``n`` matching documents, ``n_texts`` different texts were drawn and compared with each
    other; all pairs of ``n_paired`` of them give the percentiles. ``agreement`` is
    (n_layers, n_layers) float64, symmetric: the mean share of a text's k neighbours that two
    layers have in common, 1 on the diagonal and k / (n_texts - 1) by chance.
    """

    n: int
    n_texts: int
    n_paired: int
    k: int
    seed: int
    layers: tuple[LayerShape, ...]
    agreement: NDArray[np.float64]

    def plot(self, axes: Axes | None = None) -> Figure:
        """Draw the agreement of each two layers as a heat map, and return the figure.

        Without ``axes`` to draw into, the figure is a new one.
        """
        layers = [shape.layer for shape in self.layers]
        label = f"mean overlap@{self.k} of neighbours, {self.n_texts:,} texts"
        return draw_heat_map(axes, self.agreement, layers, label=label)

    def _summary(self) -> str:
        n_texts = counted(self.n_texts, "text")
        return f"{counted(len(self.layers), 'layer')}, {n_texts}, k = {self.k}"

    def _table(self) -> Table:
        dtypes = dict.fromkeys(
            ("effective_rank", "anisotropy", "hubness", "intrinsic_dimension"), NUMBER
        )
        rows = [
            {
                "layer": shape.layer,
                **{name: getattr(shape, name) for name in dtypes},
                "n_repeated": shape.n_repeated,
                **shape.percentiles,
            }
            for shape in self.layers
        ]
        return Table({"layer": WHOLE, **dtypes, "n_repeated": WHOLE}, len(rows), rows)


def describe_layers(
    snapshot: Snapshot,
    *,
    layers: Sequence[int],
    where: Where = (),
    k: int = 10,
    n_sampled: int = N_SAMPLED,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Geometry:
    """Return the statistics of layers over at most ``n_sampled`` documents, each text once.

    Exact repeats would be neighbours at every layer, at distance zero. Raises `OptionError` for
    fewer than k + 2 texts, since all would be neighbours of all.
    """
    k = check_count("k", k)
    least = k + 2
    n_sampled = check_count("the sample", n_sampled, least=least)
    drawn = sample_texts(snapshot, where, n=n_sampled, least=least, seed=seed)
    paired = sample_texts(snapshot, where, n=min(N_PAIRED, n_sampled), seed=seed)
    shapes: list[LayerShape] = []
    neighbors: list[NDArray[np.int64]] = []
    for layer in layers:
        source = snapshot.layer(layer)
        pairs = percentiles_of(compare_pairs(source, paired.rows))
        shape, nearest = _describe(layer, source, drawn, k, pairs)
        shapes.append(shape)
        neighbors.append(nearest)
        if on_progress is not None:
            on_progress(len(shapes), len(layers))
    return Geometry(
        n=len(snapshot.rows(where)),
        n_texts=len(drawn.rows),
        n_paired=len(paired.rows),
        k=k,
        seed=seed,
        layers=tuple(shapes),
        agreement=_agreement(neighbors),
    )


def _describe(
    layer: int, source: VectorSource, table: DocumentTable, k: int, pairs: Mapping[str, float]
) -> tuple[LayerShape, NDArray[np.int64]]:
    vectors = source.gather(table.rows)
    neighbors = Neighbors(*find_others(source, table.rows, k))  # positions, not rows
    distances, n_repeated = _two_distances(vectors, neighbors)
    shape = LayerShape(
        layer=layer,
        effective_rank=effective_rank(vectors),
        anisotropy=anisotropy(vectors),
        hubness=hubness(neighbors.rows),
        intrinsic_dimension=two_nn(*distances),
        n_repeated=n_repeated,
        percentiles=pairs,
    )
    return shape, neighbors.rows


def effective_rank(vectors: Vectors) -> float:
    """Return how many directions the vectors (n, width) spread over, from 1 to the width.

    The exponential of the entropy of the singular values' shares, after the mean is subtracted
    (Roy and Vetterli, *The effective rank*, EUSIPCO 2007; as a label-free measure of an encoder:
    RankMe, Garrido and others, ICML 2023, who leave the mean in).
    """
    from scipy.stats import entropy

    centered = vectors - vectors.mean(axis=0, dtype=np.float64)
    covariance = centered.T @ centered
    with single_threaded_blas():
        powers = np.linalg.eigvalsh(covariance)
    singular = np.sqrt(np.maximum(powers, 0))
    return float(np.exp(entropy(singular))) if singular.any() else 1.0


def anisotropy(vectors: Vectors) -> float:
    """Return the mean similarity of two different documents, over all pairs of n unit vectors.

    0 if directions are uniform, 1 if all vectors are equal (Ethayarajh, *How contextual are
    contextualized word representations?*, EMNLP 2019, who estimates it from random pairs).
    """
    n, total = len(vectors), vectors.sum(axis=0, dtype=np.float64)
    return float((total @ total - np.square(vectors, dtype=np.float64).sum()) / (n * (n - 1)))


def hubness(neighbors: NDArray[np.int64]) -> float:
    """Return the skewness of how often each of n documents is among the k nearest of the others.

    ``neighbors`` are positions (n, k). About 0 without hubs; it grows as a few documents become
    neighbours of many (Radovanović, Nanopoulos and Ivanović, *Hubs in space*, JMLR 11, 2010).
    """
    from scipy.stats import skew

    n_occurrences = np.bincount(neighbors.ravel(), minlength=len(neighbors))
    return 0.0 if np.ptp(n_occurrences) == 0 else float(skew(n_occurrences))


def two_nn(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Return the intrinsic dimension from distances (n,) to the nearest and second nearest.

    The slope through the origin of -log(1 - F(μ)) over log μ, where μ = second / first and F is
    its empirical distribution, without the largest tenth (TwoNN: Facco, d'Errico, Rodriguez and
    Laio, *Scientific Reports* 7, 2017). ``first`` is above 0. None where all ratios are 1.
    """
    ratios = np.log(np.sort(second / first))
    n_kept = int(len(ratios) * _KEPT_SHARE)
    at, height = ratios[:n_kept], -np.log1p(-np.arange(1, n_kept + 1) / len(ratios))
    return float(at @ height / (at @ at)) if at.any() else None


def _two_distances(
    vectors: Vectors, neighbors: Neighbors
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], int]:
    """Return distances to the two nearest neighbours, and how many vectors were left out.

    Different texts can have equal vectors, as an uncased tokenizer ignores case. Only the first of
    equal ones counts, as a document and as a neighbour, to avoid division by zero distances.
    """
    own = np.arange(len(vectors))[:, None]
    is_same: NDArray[np.bool_] = to_steps(neighbors.similarities) >= _SAME
    is_repeat: NDArray[np.bool_] = np.any(is_same & (neighbors.rows < own), axis=1)
    counts = ~is_repeat[neighbors.rows] & ~is_same
    is_used = ~is_repeat & (counts.sum(axis=1) >= 2)
    order = np.argsort(~counts[is_used], axis=1, kind="stable")[:, :2]
    nearest = np.take_along_axis(neighbors.rows[is_used], order, axis=1)
    wide = vectors.astype(np.float64)
    # 1 - cosine in float32 would lose small distances.
    distances = [np.linalg.norm(wide[is_used] - wide[at], axis=1) for at in nearest.T]
    return (distances[0], distances[1]), int(np.sum(~is_used))


def _agreement(neighbors: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return the mean overlap of the neighbours (n, k) of each pair of layers."""
    agreement = np.eye(len(neighbors))
    for i, of_layer in enumerate(neighbors):
        for j, of_other in enumerate(neighbors[:i]):
            agreement[i, j] = agreement[j, i] = _overlap(of_layer, of_other)
    return agreement


def _overlap(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    n_shared = 0
    for start in range(0, len(first), _BLOCK):
        block = slice(start, start + _BLOCK)
        n_shared += int((first[block, :, None] == second[block, None, :]).sum())
    return n_shared / first.size
