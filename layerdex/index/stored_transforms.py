"""The transforms stored with an index: fitted on request, loaded for questions.

They do not change as documents are added and removed: one fit serves documents and queries alike.
`Index.info` says how many documents have changed since.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from layerdex.arguments import check_callbacks
from layerdex.choices import TransformName
from layerdex.errors import DamagedIndexError, IndexMismatchError, OptionError
from layerdex.records import OnProgress
from layerdex.search.vectors.transform import Transform, Transforms
from layerdex.storage.artifact_changes import remove_artifact, save_artifact
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

if TYPE_CHECKING:
    from layerdex.search.transforms.fit import TransformFit

STALE_SHARE = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredTransforms:
    """Stored transforms by name, and what the catalog records of them."""

    record: Mapping[str, Any]
    by_name: Mapping[TransformName, Transforms]


def fit_transforms(
    store: Store,
    *,
    shrinkage: float | None,
    lock_timeout_s: float,
    on_progress: OnProgress | None,
) -> TransformFit:
    """Fit transforms at all stored layers on all documents, and store them; see `Index`."""
    from layerdex.search.knn.sampling import sample_documents
    from layerdex.search.transforms.fit import N_FITTED, check_shrinkage, fit_layers

    check_callbacks(on_progress=on_progress)
    shrinkages = None
    if shrinkage is not None:
        shrinkages = dict.fromkeys(store.layers, check_shrinkage(shrinkage))

    def question(snapshot: Snapshot) -> tuple[TransformFit, int]:
        fit = fit_layers(
            snapshot.layer,
            sample_documents(snapshot, n=N_FITTED),
            layers=store.layers,
            shrinkages=shrinkages,
            on_progress=on_progress,
        )
        return replace(fit, n=snapshot.n_documents), int(snapshot.setting(NEXT_ROW))

    # Fitting takes minutes for a large model: others may write meanwhile.
    fit, next_row = store.query(question)
    with store.write(lock_timeout_s=lock_timeout_s) as writer:
        _save(store, writer, fit, next_row)
    return fit


def warn_if_stale(store: Store) -> None:
    """Log a warning where more than a tenth of the documents have changed since the fit."""
    with store.read() as snapshot:
        try:
            record = read_artifact_record(snapshot, TRANSFORM)
        except DamagedIndexError as error:  # what was committed is done
            logger.warning("%s", error)
            return
        if record is None:
            return
        n_changed = count_changes(snapshot, record)
    if n_changed > STALE_SHARE * record["n"]:
        logger.warning(
            "%s documents have been added or removed since the transforms were fitted on %s: "
            "run '%s' to fit them again",
            f"{n_changed:,}",
            f"{record['n']:,}",
            TRANSFORM.remedy(str(store.path)),
        )


def remove_transforms(store: Store, *, lock_timeout_s: float) -> None:
    """Remove the stored transforms; without any, nothing happens."""
    with store.write(lock_timeout_s=lock_timeout_s) as writer:
        remove_artifact(writer, TRANSFORM)


def load_transforms(
    store: Store, snapshot: Snapshot, cached: StoredTransforms | None
) -> StoredTransforms:
    """Return the transforms of a commit: the ``cached`` ones where they are these.

    Raises `OptionError` where there are none, `IndexMismatchError` for ones that do not fit the
    index, `DamagedIndexError` for a changed file.
    """
    if cached is not None and read_artifact_record(snapshot, TRANSFORM) == cached.record:
        return cached
    loaded = load_artifact(snapshot, TRANSFORM)
    if loaded is None:
        raise OptionError(f"this index has no transforms: run '{TRANSFORM.remedy('INDEX')}' first")
    tensors, record = loaded
    n, width = len(store.layers), store.settings.width
    shapes = {name: (tensor.shape, tensor.dtype.name) for name, tensor in tensors.items()}
    expected = {"means": ((n, width), "float32"), "matrices": ((n, width, width), "float32")}
    same_model = record["fingerprint"] == store.settings.fingerprint
    fits = shapes == expected and same_model and tuple(record["layers"]) == store.layers
    if not (fits and all(np.isfinite(tensor).all() for tensor in tensors.values())):
        raise IndexMismatchError(
            "the transforms were made for vectors of another model or other layers: "
            f"run '{TRANSFORM.remedy('INDEX')}' again"
        )
    by_layer = list(zip(store.layers, tensors["means"], tensors["matrices"], strict=True))
    return StoredTransforms(
        record,
        {
            TransformName.CENTER: {layer: Transform(mean) for layer, mean, _ in by_layer},
            TransformName.WHITEN: {
                layer: Transform(mean, matrix) for layer, mean, matrix in by_layer
            },
        },
    )


def _save(store: Store, writer: Writer, fit: TransformFit, next_row: int) -> None:
    whitened = [layer.axes.whiten(layer.shrinkage) for layer in fit.layers]
    tensors: Tensors = {
        "means": np.stack([transform.mean for transform in whitened]),
        "matrices": np.stack([t.matrix for t in whitened if t.matrix is not None]),
    }
    record = {
        "fingerprint": store.settings.fingerprint,
        "layers": [layer.layer for layer in fit.layers],
        "shrinkages": [layer.shrinkage for layer in fit.layers],
        "n": fit.n,
        "n_fitted": fit.n_fitted,
        "next_row": next_row,
    }
    save_artifact(writer, TRANSFORM, tensors, record)
