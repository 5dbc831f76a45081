"""What an index needs besides documents and questions: checks, repair, compaction, copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerdex.arguments import (
    check_callbacks,
    check_type,
    to_list,
    to_path,
)
from layerdex.choices import TransformName
from layerdex.errors import OptionError
from layerdex.index.contents import Contents
from layerdex.records import OnProgress
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.storage.catalog.settings import BEST_LAYER
from layerdex.storage.maintenance.info import IndexInfo, read_info

if TYPE_CHECKING:
    from layerdex.storage.maintenance.compaction import Compaction
    from layerdex.storage.maintenance.verify import Problem


class Upkeep(Contents):
    """The part of `Index` that looks after what is on disk."""

    def save_best(self, evaluation: Evaluation, *, lock_timeout_s: float = 10.0) -> None:
        """Make the best layer of an evaluation the default of later questions.

        Raises `OptionError` for one of transformed vectors, as questions are asked of plain ones.
        """
        check_type(evaluation, Evaluation, what="the best layer is one of an `Evaluation`")
        if evaluation.best.target.transform is not TransformName.NONE:
            raise OptionError(
                "the layer that is best with a transform is none to take without: "
                "evaluate with --transform none"
            )
        self.resolve_layers(evaluation.best_layer)  # that of another index may not be here
        value = {"layer": evaluation.best_layer, "n": evaluation.n, **_figures(evaluation)}
        with self.store.write(lock_timeout_s=lock_timeout_s) as writer:
            writer.set(BEST_LAYER, value)

    def info(self) -> IndexInfo:
        """Return counts, sizes and settings."""
        return read_info(self.store)

    def compact(
        self, *, lock_timeout_s: float = 10.0, on_progress: OnProgress | None = None
    ) -> int:
        """Merge small segments and drop dead versions; return how many segments were replaced."""
        from layerdex.storage.maintenance.compaction import compact

        check_callbacks(on_progress=on_progress)
        with self.store.write(lock_timeout_s=lock_timeout_s) as writer:
            return compact(self.store, writer, on_progress=on_progress)

    def plan_compaction(self) -> Compaction:
        """Say what `compact` would do; nothing is written."""
        from layerdex.storage.maintenance.compaction import plan_compaction

        return self.store.query(lambda snapshot: plan_compaction(self.store, snapshot))

    def backup(self, target: str | Path, *, on_progress: OnProgress | None = None) -> int:
        """Copy the newest commit to a new directory; return how many documents it has.

        A writer may be at work meanwhile. Raises `IndexExistsError` where there is something
        already, and `DamagedIndexError` instead of copying damage.
        """
        from layerdex.storage.maintenance.backup import back_up

        check_callbacks(on_progress=on_progress)
        return back_up(
            self.store, to_path(target, what="a backup goes to a path"), on_progress=on_progress
        )

    def verify(self, *, on_progress: OnProgress | None = None) -> list[Problem]:
        """Check every checksum, every text and the catalog; return what is wrong."""
        from layerdex.storage.maintenance.verify import verify

        check_callbacks(on_progress=on_progress)
        return verify(self.store, on_progress=on_progress)

    def repair(
        self,
        problems: Sequence[Problem],
        *,
        lock_timeout_s: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Rebuild the layer files among the problems that `verify` found; return how many."""
        from layerdex.indexer.pipeline.repair import repair
        from layerdex.storage.maintenance.verify import Problem

        check_callbacks(on_progress=on_progress)
        what = "give the problems that `verify` found"
        problems = to_list(problems, what=what)
        for one in problems:
            check_type(one, Problem, what=what)
        return repair(
            self.store,
            problems,
            lambda: self.encoder,
            lock_timeout_s=lock_timeout_s,
            on_progress=on_progress,
        )


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """Return how the best layer was found and what it reached, the deciding metric first."""
    best, classification = evaluation.best, evaluation.classification
    if classification is None:
        return {"method": evaluation.subject.value, **best.values}
    values = {name: best.values[name] for name in ("macro_f1", "accuracy")}
    return {"method": classification.method.value, "k": best.k, **values}
