"""The best layer of an index: saved after an evaluation, the default of later questions."""

from __future__ import annotations

from typing import Any

from layerdex.arguments import check_type
from layerdex.choices import TransformName
from layerdex.errors import OptionError
from layerdex.index.open_index import OpenIndex
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.storage.catalog.settings import BEST_LAYER


def save(index: OpenIndex, evaluation: Evaluation, *, lock_timeout_s: float) -> None:
    """Save the best layer of an evaluation; see `Index.save_best`."""
    check_type(evaluation, Evaluation, what="the best layer comes from an `Evaluation`")
    if evaluation.best.target.transform is not TransformName.NONE:
        raise OptionError(
            "the layer that is best with a transform need not be best without: "
            "evaluate with transform none"
        )
    if evaluation.classification is not None and evaluation.best.k is None:
        raise OptionError("the layer of a head is not what neighbours need: evaluate neighbours")
    index.resolve_layers(evaluation.best_layer)  # a layer of another index may be missing here
    value = {"layer": evaluation.best_layer, "n": evaluation.n, **_figures(evaluation)}
    with index.store.write(lock_timeout_s=lock_timeout_s) as writer:
        writer.set(BEST_LAYER, value)


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """Return the method and the best layer's scores, the deciding metric first."""
    best, classification = evaluation.best, evaluation.classification
    if classification is None:
        return {"method": evaluation.subject.value, **best.values}
    values = {name: best.values[name] for name in ("macro_f1", "accuracy")}
    sample = classification.sample
    drawn = {} if sample is None else {"n_sampled": len(sample)}
    return {"method": classification.method.value, "k": best.k, **values, **drawn}
