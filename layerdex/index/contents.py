"""The documents of an index: in, out, and which layers there are to ask at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from layerdex.arguments import (
    check_callbacks,
    check_count,
    to_choice,
    to_path,
)
from layerdex.choices import Change, ExportFormat, OnError
from layerdex.errors import OptionError
from layerdex.index.stored_transforms import refit_if_due
from layerdex.layers import LayerSelection, describe_layers, resolve_stored
from layerdex.records import Document, Encoder, OnProgress, Rejected, Source, Truncated
from layerdex.search.filters import Expressions, parse_where
from layerdex.storage.catalog.settings import read_best_layer
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store

if TYPE_CHECKING:
    from layerdex.choices import Format
    from layerdex.indexer.pipeline.pipeline import BuildReport
    from layerdex.indexer.readers import Fields


class Contents:
    """The part of `Index` that holds documents, and that the others build on."""

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
        return self.store.query(lambda snapshot: snapshot.n_documents)

    def choose_layer(self, layer: LayerSelection | None) -> int:
        """Return the stored layer that ``layer`` stands for; see the class for None."""
        if layer is not None:
            chosen = self.resolve_layers(layer)
            if len(chosen) > 1:
                raise OptionError(f"one layer is needed here, not {layer!r}")
            return chosen[0]
        with self.store.read() as snapshot:
            best = read_best_layer(snapshot.connection, self.layers)
        return self.layers[-1] if best is None else int(best["layer"])

    def resolve_layers(self, layers: LayerSelection) -> tuple[int, ...]:
        """Return the stored layers that a selection stands for; raises `LayerError`."""
        return resolve_stored(layers, stored=self.layers, depth=self.store.settings.depth)

    def add(
        self,
        *sources: Source,
        fields: Fields | None = None,
        format: Format | str = "auto",
        on_error: OnError | str = OnError.ABORT,
        on_reject: Callable[[Rejected], None] | None = None,
        on_change: Callable[[Change, str], None] | None = None,
        on_progress: OnProgress | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
        n_total: int | None = None,
        sync: bool = False,
        dry_run: bool = False,
        auto_compact: bool = True,
        lock_timeout_s: float = 10.0,
    ) -> BuildReport:
        """Add documents from paths, mappings or data frames; what is unchanged is skipped.

        An id that is there already is an update. With ``sync``, when all sources have been read
        to their ends, the documents that were not among them are removed in one commit; a
        rejected row keeps its document, and nothing is removed where a rejected row may be of
        any document (`RowError`) or where there was no document at all (`SourceError`). With
        ``dry_run`` nothing is encoded or changed, and the report says what would be.
        ``on_change`` is told of each document that is new, updated or removed. After a run,
        small segments are merged, unless ``auto_compact`` is False (see `merge_policy`), and
        stored transforms are fitted anew where they have to be (see `stored_transforms`).

        ``on_progress`` gets the rows done so far and ``n_total``: at a commit what is committed,
        and in between, a few times a second, also those of the next window whose encoding is done.
        Callbacks, and the iterators that are sources, run in the calling thread; a search for a
        text in one of them waits for the encoder's turn. Windows of standard input, pipes and
        iterators are not read ahead of commits, as these may fall silent. Where all sources are
        files, ``on_bytes`` gets just before it the bytes of these rows and of all. Raises
        `RowError` at a bad row unless ``on_error`` is skip, `SourceError` for a source that cannot
        be read.
        """
        from layerdex.indexer.pipeline.build import build, preview
        from layerdex.indexer.progress import RunProgress
        from layerdex.indexer.readers.sources import may_block, read_all

        check_callbacks(
            on_reject=on_reject, on_change=on_change, on_progress=on_progress, on_bytes=on_bytes
        )
        if n_total is not None:
            check_count("n_total", n_total, least=0)
        progress = RunProgress(on_progress, n_total=n_total, on_bytes=on_bytes)
        documents = read_all(sources, format=format, fields=fields, on_bytes=progress.read)
        options: dict[str, Any] = {
            "on_error": to_choice(OnError, on_error),
            "on_reject": on_reject,
            "on_change": on_change,
            "progress": progress,
            "sync": sync,
        }
        if dry_run:
            return preview(self.store, documents, **options)
        return build(
            self.store,
            documents,
            lambda: self.encoder,
            **options,
            auto_compact=auto_compact,
            at_end=partial(refit_if_due, self.store),
            reads_ahead=not any(map(may_block, sources)),
            lock_timeout_s=lock_timeout_s,
        )

    def get(self, *ids: str) -> list[Document]:
        """Return documents by id, in the order asked; raises `DocumentNotFoundError`."""
        check_ids(ids)

        def question(snapshot: Snapshot) -> list[Document]:
            rows = [snapshot.row_of(identifier) for identifier in ids]
            documents = snapshot.documents(rows)
            return [documents[row] for row in rows]

        return self.store.query(question)

    def documents(self, *, where: Expressions = None) -> Iterator[Document]:
        """Yield the documents in input order, all from one commit."""
        conditions = parse_where(where)

        def listing() -> Iterator[Document]:
            with self.store.read() as snapshot:
                yield from snapshot.in_input_order(conditions)

        return listing()

    def export(
        self,
        target: str | Path | BinaryIO,
        *,
        format: ExportFormat | str = ExportFormat.AUTO,
        where: Expressions = None,
        layers: LayerSelection | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Write the documents of one commit in input order, and return how many.

        `add` makes the same documents of the file. ``format`` auto goes by the name of ``target``:
        parquet for .parquet and .pq, jsonl for .jsonl, .ndjson and no extension; any other is an
        `OptionError`. A path gets the whole file or none. With
        ``layers`` each document has its stored vectors there, in fields ``vector_N``: as they are
        kept, within 5e-4 of unit length, and unit ones of an int8 index; `add` leaves them out.
        Memory is bounded by 900 documents, or a parquet row group of 32 MB. Raises `StorageError`
        where it cannot be written and `DamagedIndexError` for damage on the way.
        """
        from layerdex.indexer.writers.documents import resolve_export_format, write_export
        from layerdex.storage.files import atomic_write
        from layerdex.storage.maintenance.export import read_batches

        check_callbacks(on_progress=on_progress)
        chosen = () if layers is None else self.resolve_layers(layers)
        batches = read_batches(self.store, where=parse_where(where), layers=chosen)
        path = None if hasattr(target, "write") else to_path(target, what="an export is a path")
        write = partial(
            write_export,
            batches=batches,
            format=resolve_export_format(path, to_choice(ExportFormat, format)),
            layers=chosen,
            width=self.store.settings.width,
            precision=self.store.precision,
            on_progress=on_progress,
        )
        with closing(batches):
            if path is None:
                return write(cast(BinaryIO, target))
            with atomic_write(path) as written, written.open("wb") as file:
                return write(file)

    def delete(self, *ids: str, dry_run: bool = False, lock_timeout_s: float = 10.0) -> int:
        """Delete documents and return how many; raises `DocumentNotFoundError` for a missing one.

        Nothing is deleted then, nor with ``dry_run``.
        """
        check_ids(ids)
        if dry_run:
            return len({document.id for document in self.get(*ids)})
        with self.store.write(lock_timeout_s=lock_timeout_s) as writer:
            n_deleted = writer.delete(ids)
            refit_if_due(self.store, writer)
        return n_deleted

    def truncated(self) -> list[Truncated]:
        """Return the documents that were cut, in input order."""
        return self.store.query(lambda snapshot: [Truncated(*one) for one in snapshot.truncated()])


def check_ids(ids: Sequence[object]) -> None:
    """Raise `OptionError` for an id that is no string, such as a list of ids."""
    for one in ids:
        if not isinstance(one, str):
            raise OptionError(f"an id is a string, not {one!r}; give several one by one: *ids")
