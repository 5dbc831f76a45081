"""The transforms that an index keeps: saved, loaded, and fitted anew when documents have changed.

The rule: when a run that adds or removes documents ends, and those added and removed since the fit
are more than a tenth of those that there were, it fits anew, with the shrinkages as they are. Until
then the old fit serves documents and questions alike, so that the two never differ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from layerdex.choices import TransformName
from layerdex.errors import IndexMismatchError, LayerdexError, OptionError
from layerdex.records import OnProgress
from layerdex.search.knn.sampling import sample_documents
from layerdex.search.transforms.fit import N_FITTED, TransformFit, fit_layers
from layerdex.search.vectors.transform import Transform, Transforms
from layerdex.storage.artifact_changes import save_artifact
from layerdex.storage.artifacts import (
    TRANSFORM,
    Tensors,
    count_changes,
    load_artifact,
    read_artifact_record,
)
from layerdex.storage.catalog.changes import NEXT_ROW
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from layerdex.storage.writer import Writer

REFIT_SHARE = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredTransforms:
    """Stored transforms by name, and what the catalog says of them."""

    record: Mapping[str, Any]
    by_name: Mapping[TransformName, Transforms]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fit, and the next row of the index when its documents were read."""

    fit: TransformFit
    next_row: int


def fit_all(
    store: Store,
    *,
    shrinkages: Mapping[int, float] | None = None,
    on_progress: OnProgress | None = None,
) -> Fitted:
    """Fit transforms for all stored layers on all documents; see `fit_layers`."""

    def question(snapshot: Snapshot) -> Fitted:
        fit = fit_layers(
            snapshot.layer,
            sample_documents(snapshot, n=N_FITTED),
            layers=store.layers,
            shrinkages=shrinkages,
            on_progress=on_progress,
        )
        return Fitted(replace(fit, n=snapshot.n_documents), int(snapshot.setting(NEXT_ROW)))

    return store.query(question)


def save_fit(store: Store, writer: Writer, fitted: Fitted) -> None:
    """Keep a fit in space of the one before. Raises as `save_artifact` does."""
    fit = fitted.fit
    whitened = [one.axes.whiten(one.shrinkage) for one in fit.layers]
    tensors: Tensors = {
        "means": np.stack([one.mean for one in whitened]),
        "matrices": np.stack([one.matrix for one in whitened if one.matrix is not None]),
    }
    record = {
        "fingerprint": store.settings.fingerprint,
        "layers": [one.layer for one in fit.layers],
        "shrinkages": [one.shrinkage for one in fit.layers],
        "n": fit.n,
        "n_fitted": fit.n_fitted,
        "next_row": fitted.next_row,
    }
    save_artifact(store, writer, TRANSFORM, tensors, record)


def load_transforms(store: Store, known: StoredTransforms | None) -> StoredTransforms:
    """Return the stored transforms; those that are ``known`` where they are the newest.

    Raises `OptionError` where there are none, `IndexMismatchError` for ones that do not fit the
    index, `DamagedIndexError` for a changed file.
    """
    if known is not None:
        with store.read() as snapshot:
            if read_artifact_record(snapshot, TRANSFORM) == known.record:
                return known
    found = store.query(lambda snapshot: load_artifact(snapshot, TRANSFORM))
    if found is None:
        raise OptionError(f"this index has no transforms: run '{TRANSFORM.remedy('INDEX')}' first")
    tensors, record = found
    _check_fits(store, record)
    n, width = len(store.layers), store.settings.width
    kinds = {name: (one.shape, one.dtype.name) for name, one in tensors.items()}
    expected = {"means": ((n, width), "float32"), "matrices": ((n, width, width), "float32")}
    if kinds != expected or not all(np.isfinite(one).all() for one in tensors.values()):
        raise _mismatch()
    by_layer = list(zip(store.layers, tensors["means"], tensors["matrices"], strict=True))
    return StoredTransforms(
        record,
        {
            TransformName.CENTER: {layer: Transform(mean) for layer, mean, _ in by_layer},
            TransformName.WHITEN: {layer: Transform(mean, m) for layer, mean, m in by_layer},
        },
    )


def refit_if_due(store: Store, writer: Writer) -> None:
    """Fit anew where the rule at the top of this file says so.

    Where that fails, such as on a full disk or for want of memory, the fit before stays and a
    warning is logged: what the run committed is done.
    """
    try:
        with store.read() as snapshot:
            record = read_artifact_record(snapshot, TRANSFORM)
            if record is None or count_changes(snapshot, record) <= REFIT_SHARE * record["n"]:
                return
        _check_fits(store, record)
        shrinkages = dict(zip(record["layers"], record["shrinkages"], strict=True))
        save_fit(store, writer, fit_all(store, shrinkages=shrinkages))
    except (LayerdexError, MemoryError) as error:
        reason = str(error) or "memory is short"
        logger.warning("the transforms stay as they were fitted: %s", reason)


def _check_fits(store: Store, record: Mapping[str, Any]) -> None:
    is_of_model = record["fingerprint"] == store.settings.fingerprint
    if not (is_of_model and tuple(record["layers"]) == store.layers):
        raise _mismatch()


def _mismatch() -> IndexMismatchError:
    return IndexMismatchError(
        "the transforms were made for vectors of another model or other layers: "
        f"run '{TRANSFORM.remedy('INDEX')}' again"
    )
