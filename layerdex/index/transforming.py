"""Transforms of an index's vectors: fitted, kept and forgotten."""

from __future__ import annotations

from layerdex.arguments import check_callbacks
from layerdex.index.places import Places
from layerdex.index.stored_transforms import fit_all, refit_if_due, save_fit
from layerdex.records import OnProgress
from layerdex.search.transforms.fit import TransformFit, check_shrinkage
from layerdex.storage.artifact_changes import remove_artifact
from layerdex.storage.artifacts import TRANSFORM


class Transforming(Places):
    """The part of `Index` that makes vectors more even."""

    def fit_transforms(
        self,
        *,
        shrinkage: float | None = None,
        lock_timeout_s: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> TransformFit:
        """Fit centring and whitening at each layer on all documents, and keep them with the index.

        What was kept before is replaced. ``shrinkage``, from 0.001 to 1, is for all layers; None
        chooses it (see `search.transform_fit`). When more than a tenth of the documents
        have come or gone, the run that changes them fits anew with the same shrinkages. Raises
        `OptionError` for documents that are alike at all layers, `LockedIndexError` or
        `StorageError`.
        """
        check_callbacks(on_progress=on_progress)
        given = None
        if shrinkage is not None:
            given = dict.fromkeys(self.layers, check_shrinkage(shrinkage))
        # Fitting takes minutes for a large model: others may write, and end their runs, meanwhile.
        fitted = fit_all(self.store, shrinkages=given, on_progress=on_progress)
        with self.store.write(lock_timeout_s=lock_timeout_s) as writer:
            save_fit(self.store, writer, fitted)
            refit_if_due(self.store, writer)
        return fitted.fit

    def remove_transforms(self, *, lock_timeout_s: float = 10.0) -> None:
        """Forget the transforms kept with the index; without any, nothing happens."""
        with self.store.write(lock_timeout_s=lock_timeout_s) as writer:
            remove_artifact(self.store, writer, TRANSFORM)
