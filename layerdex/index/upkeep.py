"""What an index needs besides questions: documents in and out, checks, repair, compaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerdex.arguments import (
    check_callbacks,
    check_count,
    check_kind,
    to_choice,
    to_list,
    to_path,
)
from layerdex.errors import OptionError
from layerdex.layers import LayerSelection, describe_layers, resolve_stored
from layerdex.records import Document, Encoder, OnError, OnProgress, Rejected, Source, Truncated
from layerdex.search.evaluation import Evaluation
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.measurement import Measurement
from layerdex.storage.info import IndexInfo, read_info
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store

if TYPE_CHECKING:
    from layerdex.indexer.build import BuildReport
    from layerdex.indexer.corpus import Fields, Format
    from layerdex.storage.integrity import Problem

BEST_LAYER = "best_layer"


class Upkeep:
    """The part of `Index` that changes and looks after what is on disk."""

    def __init__(self, store: Store, load_encoder: Callable[[], Encoder]) -> None:
        self.store = store
        self._load_encoder = load_encoder
        self._encoder: Encoder | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that this index holds, ascending."""
        return self.store.layers

    @property
    def encoder(self) -> Encoder:
        """The encoder that this index was made with, loaded on first use."""
        if self._encoder is None:
            self._encoder = self._load_encoder()
        return self._encoder

    def __repr__(self) -> str:
        what = f"layers {describe_layers(self.layers)} of {self.store.settings.model}"
        return f"<Index {str(self.store.path)!r}, {what}>"

    def __len__(self) -> int:
        return self.store.ask(lambda snapshot: snapshot.n_documents)

    def add(
        self,
        *sources: Source,
        fields: Fields | None = None,
        format: Format | str = "auto",
        on_error: OnError | str = OnError.ABORT,
        on_reject: Callable[[Rejected], None] | None = None,
        on_progress: OnProgress | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
        n_total: int | None = None,
        lock_timeout_s: float = 10.0,
    ) -> BuildReport:
        """Add documents from paths, mappings or data frames; what is unchanged is skipped.

        An id that is there already is an update. ``on_progress`` gets the rows done so far and
        ``n_total``: at a commit what is committed, and in between, a few times a second, also
        those of the next window whose encoding is done. It may not itself use the encoder, as a
        search for a text does. Where all sources are files, ``on_bytes`` gets just before it the
        bytes of these rows and of all. Raises `RowError` at a bad row unless ``on_error`` is skip,
        `SourceError` for a source that cannot be read.
        """
        from layerdex.indexer.build import build
        from layerdex.indexer.corpus.sources import read_all
        from layerdex.indexer.progress import RunProgress

        check_callbacks(on_reject=on_reject, on_progress=on_progress, on_bytes=on_bytes)
        if n_total is not None:
            check_count("n_total", n_total, least=0)
        progress = RunProgress(on_progress, n_total=n_total, on_bytes=on_bytes)
        return build(
            self.store,
            read_all(sources, format=format, fields=fields, on_bytes=progress.read),
            lambda: self.encoder,
            on_error=to_choice(OnError, on_error),
            on_reject=on_reject,
            progress=progress,
            lock_timeout_s=lock_timeout_s,
        )

    def save_best(
        self, evaluation: Evaluation | Measurement, *, lock_timeout_s: float = 10.0
    ) -> None:
        """Make the best layer of an evaluation or measurement the default of later questions."""
        kinds = (Evaluation, Measurement)
        check_kind(evaluation, kinds, what="the best layer is one of an `Evaluation`")
        self.resolve_layers(evaluation.best_layer)  # that of another index may not be here
        value = {"layer": evaluation.best_layer, "n": evaluation.n, **_figures(evaluation)}
        with self.store.write(lock_timeout_s=lock_timeout_s) as writer:
            writer.set(BEST_LAYER, value)

    def get(self, *ids: str) -> list[Document]:
        """Return documents by id, in the order asked; raises `DocumentNotFoundError`."""
        check_ids(ids)

        def question(snapshot: Snapshot) -> list[Document]:
            rows = [snapshot.row_of(identifier) for identifier in ids]
            documents = snapshot.documents(rows)
            return [documents[row] for row in rows]

        return self.store.ask(question)

    def documents(self, *, where: Expressions = None) -> Iterator[Document]:
        """Yield the documents in input order, all from one commit."""
        conditions = parse_where(where)

        def listing() -> Iterator[Document]:
            with self.store.read() as snapshot:
                yield from snapshot.in_input_order(conditions)

        return listing()

    def delete(self, *ids: str, lock_timeout_s: float = 10.0) -> int:
        """Delete documents and return how many; raises `DocumentNotFoundError` for a missing one.

        Nothing is deleted then.
        """
        check_ids(ids)
        with self.store.write(lock_timeout_s=lock_timeout_s) as writer:
            return writer.delete(ids)

    def truncated(self) -> list[Truncated]:
        """Return the documents that were cut, in input order."""
        return self.store.ask(lambda snapshot: [Truncated(*one) for one in snapshot.truncated()])

    def info(self) -> IndexInfo:
        """Return counts, sizes and settings."""
        return read_info(self.store)

    def choose_layer(self, layer: LayerSelection | None) -> int:
        """Return the stored layer that ``layer`` stands for; see the class for None."""
        if layer is not None:
            chosen = self.resolve_layers(layer)
            if len(chosen) > 1:
                raise OptionError(f"one layer is needed here, not {layer!r}")
            return chosen[0]
        with self.store.read() as snapshot:
            best = snapshot.setting(BEST_LAYER)
        return self.layers[-1] if best is None else int(best["layer"])

    def resolve_layers(self, layers: LayerSelection) -> tuple[int, ...]:
        """Return the stored layers that a selection stands for; raises `LayerError`."""
        return resolve_stored(layers, stored=self.layers, depth=self.store.settings.depth)

    def compact(
        self, *, lock_timeout_s: float = 10.0, on_progress: OnProgress | None = None
    ) -> int:
        """Merge small segments and drop dead versions; return how many segments were replaced."""
        from layerdex.storage.compaction import compact

        check_callbacks(on_progress=on_progress)
        with self.store.write(lock_timeout_s=lock_timeout_s) as writer:
            return compact(self.store, writer, on_progress=on_progress)

    def backup(self, target: str | Path, *, on_progress: OnProgress | None = None) -> int:
        """Copy the newest commit to a new directory; return how many documents it has.

        A writer may be at work meanwhile. Raises `IndexExistsError` where there is something
        already, and `DamagedIndexError` instead of copying damage.
        """
        from layerdex.storage.backup import back_up

        check_callbacks(on_progress=on_progress)
        return back_up(
            self.store, to_path(target, what="a backup goes to a path"), on_progress=on_progress
        )

    def verify(self, *, on_progress: OnProgress | None = None) -> list[Problem]:
        """Check every checksum, every text and the catalog; return what is wrong."""
        from layerdex.storage.integrity import verify

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
        from layerdex.indexer.repair import repair
        from layerdex.storage.integrity import Problem

        check_callbacks(on_progress=on_progress)
        what = "give the problems that `verify` found"
        problems = to_list(problems, what=what)
        for one in problems:
            check_kind(one, Problem, what=what)
        return repair(
            self.store,
            problems,
            lambda: self.encoder,
            lock_timeout_s=lock_timeout_s,
            on_progress=on_progress,
        )


def _figures(evaluation: Evaluation | Measurement) -> dict[str, Any]:
    """Return how the best layer was found and what it reached, the deciding metric first."""
    if isinstance(evaluation, Measurement):
        return {"method": evaluation.subject.value, **evaluation.best.values}
    best = evaluation.best
    found = {"macro_f1": best.macro_f1, "accuracy": best.accuracy}
    return {"method": evaluation.method.value, "k": best.k, **found}


def check_ids(ids: Sequence[object]) -> None:
    """Raise `OptionError` for an id that is no string, such as a list of ids."""
    for one in ids:
        if not isinstance(one, str):
            raise OptionError(f"an id is a string, not {one!r}; give several one by one: *ids")
