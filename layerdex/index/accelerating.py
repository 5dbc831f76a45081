"""Building an approximate index of a layer, with how much it does chosen by measured recall."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from layerdex.arguments import check_between, check_callbacks
from layerdex.errors import DamagedIndexError, OptionError, StorageError
from layerdex.index.approximates import check_is_large
from layerdex.index.open_index import OpenIndex, QueryVectors, query_vectors, read_texts
from layerdex.layers import LayerSelection
from layerdex.records import OnProgress, Rows, Vectors, progress_of_parts
from layerdex.search.knn.approximate import Measured
from layerdex.search.knn.recall_choice import (
    MOST_GIVEN,
    SHARES,
    Questions,
    check_can_show,
    choose,
    n_questions,
)
from layerdex.storage.approximates import read_approximates
from layerdex.storage.artifact_changes import keep_artifacts, remove_artifact, save_artifact
from layerdex.storage.artifacts import APPROXIMATES, MAX_BYTES, Tensors
from layerdex.storage.catalog.changes import NEXT_ROW
from layerdex.storage.catalog.rows import read_dead
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.approximate import (
    ApproximateIndex,
    count_lists,
    estimate_bytes,
    is_dense,
    n_trained,
)

RECALL = 0.99
_LEAST_RECALL, _MOST_RECALL = 0.5, 0.999
_ADDED_TOGETHER = 65_536
_SEED = 0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Acceleration:
    """An approximate index of a layer, built of n documents for a ``target`` of recall@10.

    ``measured`` has what was chosen and measured without a filter, and for filters that keep
    less, down to a hundredth. ``n_queries`` is the number of queries that confirmed it. Where texts
    were given, they and stored vectors are bounded separately, and the lower bound is kept.
    """

    layer: int
    n: int
    target: float
    n_queries: int
    size_bytes: int
    measured: tuple[Measured, ...]

    @property
    def reaches_target(self) -> bool:
        """Whether all bounds reach the target."""
        return all(measured.bound >= self.target for measured in self.measured)


def accelerate(
    index: OpenIndex,
    *,
    layers: LayerSelection,
    recall: float,
    queries: str | Iterable[str] | None,
    lock_timeout_s: float,
    on_progress: OnProgress | None,
) -> list[Acceleration]:
    """Build and store an approximate index for each of some layers; see `Index.accelerate`."""
    check_callbacks(on_progress=on_progress)
    target = float(check_between("recall", recall, _LEAST_RECALL, _MOST_RECALL))
    chosen = index.resolve_layers(layers)
    given = None if queries is None else _drawn(read_texts(queries))
    if given is not None:
        check_can_show(len(given), target)
    texts = None if given is None else query_vectors(index, given, None)
    # Before minutes are spent on texts and vectors.
    index.store.check_can_write(lock_timeout_s=lock_timeout_s)
    with index.store.read() as snapshot:
        check_is_large(snapshot.n_documents)
        read_approximates(snapshot)  # they may be damaged
    return [
        _accelerate_layer(index, layer, target, texts, lock_timeout_s, of_layer)
        for layer, of_layer in zip(chosen, progress_of_parts(on_progress, len(chosen)), strict=True)
    ]


def _drawn(texts: list[str]) -> list[str]:
    """Return the texts, or `MOST_GIVEN` of them drawn at random where there are more."""
    if len(texts) <= MOST_GIVEN:
        return texts
    drawn = np.random.default_rng(_SEED).choice(len(texts), MOST_GIVEN, replace=False)
    return [texts[at] for at in np.sort(drawn).tolist()]


def remove_approximates(index: OpenIndex, layers: LayerSelection, *, lock_timeout_s: float) -> bool:
    """Remove the approximate indexes of some layers; return whether there were any."""
    chosen = index.resolve_layers(layers)
    with index.store.write(lock_timeout_s=lock_timeout_s) as writer:
        of_all = set(chosen) == set(index.store.layers)
        with index.store.read() as snapshot:
            try:
                records = read_approximates(snapshot)
            except DamagedIndexError:
                if not of_all:
                    raise
                remove_artifact(writer, APPROXIMATES)
                return True
        others = [each for each in records if each["layer"] not in chosen]
        if of_all:  # a folder may be left without a record
            remove_artifact(writer, APPROXIMATES)
        elif len(others) < len(records):
            keep_artifacts(writer, APPROXIMATES, others)
    return len(others) < len(records)


def _accelerate_layer(
    index: OpenIndex,
    layer: int,
    target: float,
    texts: QueryVectors | None,
    lock_timeout_s: float,
    on_progress: OnProgress | None,
) -> Acceleration:
    def question(snapshot: Snapshot) -> tuple[Tensors, dict[str, Any], Rows]:
        given = None if texts is None else texts.at([layer])[layer]
        tensors, record = _build(snapshot, layer, target, given, on_progress)
        return tensors, record, snapshot.rows()

    # It takes minutes for a million documents: others may write meanwhile.
    tensors, record, rows = index.query(question)
    record["fingerprint"] = index.store.settings.fingerprint
    with index.store.write(lock_timeout_s=lock_timeout_s) as writer:
        with index.store.read() as snapshot:
            if _lacks_version(snapshot, rows):
                # Their vectors must not come back in this file.
                raise StorageError(
                    "documents were removed for good while the approximate index was built: "
                    "build it again"
                )
            others = [each for each in read_approximates(snapshot) if each["layer"] != layer]
        saved = save_artifact(writer, APPROXIMATES, tensors, record, beside=others)
    names = ("layer", "n", "target", "n_queries", "size_bytes")
    measured = tuple(Measured(**each) for each in saved["measured"])
    made = Acceleration(**{name: saved[name] for name in names}, measured=measured)
    if not made.reaches_target:
        logger.warning(
            "layer %s: no setting reaches a recall of %g; of the one stored it is at least %.4f",
            layer,
            target,
            min(each.bound for each in measured),
        )
    return made


def _build(
    snapshot: Snapshot,
    layer: int,
    target: float,
    given: Vectors | None,
    on_progress: OnProgress | None,
) -> tuple[Tensors, dict[str, Any]]:
    rows, vectors = snapshot.rows(), snapshot.layer(layer)
    check_is_large(len(rows))
    n, first_row, next_row = len(rows), int(rows[0]), int(snapshot.setting(NEXT_ROW))
    if not is_dense(n, next_row - first_row):
        raise OptionError(
            "most rows of this index are gone: export it and index that, then build it"
        )
    n_lists = count_lists(n)
    if (n_bytes := estimate_bytes(n, n_lists, vectors.width)) > MAX_BYTES:
        raise OptionError(
            f"the approximate index of layer {layer} would take {n_bytes / 2**30:.1f} GiB, over "
            f"{MAX_BYTES >> 30} GiB: this index is too large for one"
        )
    n_done, n_all = 0, 2 * n + len(SHARES) * n // 4

    def tell(more: int) -> None:
        nonlocal n_done
        n_done += more
        if on_progress is not None:
            on_progress(min(n_done, n_all), n_all)

    tell(0)
    rng = np.random.default_rng(_SEED)
    sample = np.sort(rng.choice(rows, min(n_trained(n_lists), n), replace=False))
    made = ApproximateIndex.train(
        vectors.gather(sample), n_lists=n_lists, span=next_row - first_row
    )
    tell(n)
    for part in vectors.slices():
        for start in range(0, len(part.rows), _ADDED_TOGETHER):
            stop = min(start + _ADDED_TOGETHER, len(part.rows))
            made.add(part.decode(start, stop), part.rows[start:stop] - first_row)
            tell(stop - start)
    made.finish()
    questions = _questions(rng, vectors.gather, rows, given, target)
    measured = choose(vectors, made, rows, questions, target=target, on_done=lambda _: tell(n // 4))
    tell(n_all - n_done)
    record = {
        "layer": layer,
        "n": n,
        "first_row": first_row,
        "next_row": next_row,
        "n_lists": n_lists,
        "target": target,
        "n_queries": questions.n_confirming,
        "measured": [asdict(each) for each in measured],
    }
    return made.to_tensors(), record


def _questions(
    rng: np.random.Generator,
    gather: Callable[[Rows], Vectors],
    rows: Rows,
    given: Vectors | None,
    target: float,
) -> Questions:
    """Return the given queries, and as many stored vectors as are needed to bound a recall."""
    given = np.empty((0, 0), np.float32) if given is None else given
    n_stored = min(n_questions(target), len(rows))
    own = rng.choice(rows, n_stored, replace=False)
    stored = gather(own)
    vectors = np.concatenate([given, stored]) if len(given) else stored
    own = np.concatenate([np.full(len(given), -1), own])
    order = rng.permutation(len(vectors))
    return Questions(vectors[order], own[order])


def _lacks_version(snapshot: Snapshot, rows: Rows) -> bool:
    """Return whether a version is gone of those that were live when an index was built."""
    not_live = np.setdiff1d(rows, snapshot.rows(), assume_unique=True)
    if not len(not_live):
        return False
    return not np.isin(not_live, read_dead(snapshot.connection)).all()
