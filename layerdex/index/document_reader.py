"""Documents as they were when a question was answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from layerdex.arguments import to_choice, to_path
from layerdex.choices import ExportFormat, Operator
from layerdex.errors import DocumentNotFoundError
from layerdex.predicates import Condition
from layerdex.records import Document
from layerdex.storage.catalog.rows import MAX_PARAMETERS, chunks
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store


class DocumentReader:
    """Reads documents of one commit, whatever others write meanwhile."""

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self._store = store
        self._snapshot = snapshot

    def __call__(self, ids: Sequence[str]) -> Iterator[Document]:
        """Yield the documents with these ids, in their order; raises `DocumentNotFoundError`."""
        for chunk in chunks(ids, MAX_PARAMETERS):
            condition = Condition("id", Operator.IN, tuple(chunk))
            documents = {
                document.id: document for document in self._snapshot.in_input_order((condition,))
            }
            for document_id in chunk:
                if document_id not in documents:
                    raise DocumentNotFoundError(f"no document has the id {document_id!r}")
                yield documents[document_id]

    def export(
        self,
        target: str | Path,
        ids: Sequence[str],
        *,
        format: ExportFormat | str = ExportFormat.AUTO,
    ) -> int:
        """Write the documents with the given ids in their order, and return how many.

        Formats, file names and errors are those of `Index.export`.
        """
        from layerdex.indexer.writers.documents import resolve_export_format, write_export
        from layerdex.storage.files import atomic_write
        from layerdex.storage.maintenance.export import Batch

        path = to_path(target, what="an export is written to a path")
        resolved = resolve_export_format(path, to_choice(ExportFormat, format))
        types = self._snapshot.metadata_types()
        batches = (
            Batch(list(self(chunk)), {}, n_total=len(ids), metadata_types=types)
            for chunk in chunks(ids, MAX_PARAMETERS)
        )
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            return write_export(
                file,
                batches,
                format=resolved,
                layers=(),
                width=self._store.settings.width,
                precision=self._store.precision,
                on_progress=None,
            )
