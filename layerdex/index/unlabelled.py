"""What can be said of layers, and of similarities there, without labels."""

from __future__ import annotations

from layerdex.arguments import check_callbacks, check_count, to_choice
from layerdex.choices import Fuse, Keep, TransformName
from layerdex.index.places import Places
from layerdex.layers import LayerSelection
from layerdex.records import OnProgress
from layerdex.search.dedup.threshold_sweep import ThresholdSweep, sweep_thresholds
from layerdex.search.evaluation.geometry import N_SAMPLED, Geometry, describe_layers
from layerdex.search.filters import Expressions, parse_where


class Unlabelled(Places):
    """The part of `Index` that looks at its vectors alone."""

    def describe_layers(
        self,
        *,
        layers: LayerSelection = "all",
        where: Expressions = None,
        k: int = 10,
        n_sampled: int = N_SAMPLED,
        seed: int = 0,
        on_progress: OnProgress | None = None,
    ) -> Geometry:
        """Return label-free figures of each layer, and how far layers agree on neighbours.

        They are of at most ``n_sampled`` documents drawn with ``seed``, each text once: rank,
        anisotropy, hubness, intrinsic dimension and percentiles of the similarity of random
        pairs (see `Geometry`). Raises `OptionError` for fewer than k + 2 texts.
        """
        chosen, conditions = self.resolve_layers(layers), parse_where(where)
        check_count("the seed", seed, least=0)
        check_callbacks(on_progress=on_progress)
        return self.store.query(
            lambda snapshot: describe_layers(
                snapshot,
                layers=chosen,
                where=conditions,
                k=k,
                n_sampled=n_sampled,
                seed=seed,
                on_progress=on_progress,
            )
        )

    def suggest_thresholds(
        self,
        *,
        layer: LayerSelection | None = None,
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        where: Expressions = None,
        keep: Keep | str = Keep.FIRST,
        on_progress: OnProgress | None = None,
    ) -> ThresholdSweep:
        """Show what `deduplicate` would remove at each of many thresholds, from one pass.

        Beside it are the similarities of nearest neighbours and of random pairs, and the pairs
        closest to each threshold (see `ThresholdSweep`). Raises `OptionError` for fewer than two
        texts.
        """
        space, conditions = self.space(layer, fuse, transform), parse_where(where)
        keep = to_choice(Keep, keep)
        check_callbacks(on_progress=on_progress)
        return self.store.query(
            lambda snapshot: sweep_thresholds(
                snapshot, space=space, where=conditions, keep=keep, on_progress=on_progress
            )
        )
