"""What labels are worth: which of them look wrong."""

from __future__ import annotations

from layerdex.arguments import check_callbacks, check_count, check_kind
from layerdex.index.evaluations import LABEL, Evaluations, labelled_facts
from layerdex.layers import LayerSelection
from layerdex.records import OnProgress
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.results import Suspects
from layerdex.search.suspects import N_NEIGHBORS, answer_suspects


class Supervision(Evaluations):
    """The part of `Index` that judges labels, and learns from them."""

    def suspects(
        self,
        *,
        layers: LayerSelection = "all",
        k: int = N_NEIGHBORS,
        by: str = LABEL,
        where: Expressions = None,
        min_per_label: int = 1,
        limit: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Suspects:
        """Find documents whose label their neighbours at most of the layers are against.

        ``by`` and ``min_per_label`` are as in `evaluate`; ``limit`` keeps the first. Neighbours
        are shown at the default layer, or the deepest of ``layers`` where that is not among them.
        See `search.suspects` for the score. Raises `NoLabelsError` for fewer than two labels.
        """
        places, conditions = self.resolve_layers(layers), parse_where(where)
        check_count("k", k)
        check_kind(by, str, what="judge by one field")
        check_count("min_per_label", min_per_label)
        if limit is not None:
            check_count("limit", limit)
        check_callbacks(on_progress=on_progress)
        default = self.choose_layer(None)
        return self.store.ask(
            lambda snapshot: answer_suspects(
                snapshot,
                labelled_facts(snapshot, conditions, by, min_per_label),
                places=places,
                shown=places.index(default) if default in places else len(places) - 1,
                k=k,
                limit=limit,
                label_field=by,
                on_progress=on_progress,
            )
        )
