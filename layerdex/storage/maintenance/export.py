"""Documents and their vectors in input order, all of one commit."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

from layerdex.records import Document, Vectors
from layerdex.storage.catalog.filters import Where
from layerdex.storage.catalog.metadata import ValueType
from layerdex.storage.catalog.rows import MAX_PARAMETERS
from layerdex.storage.queries import check_missing
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store

BATCH_DOCUMENTS = MAX_PARAMETERS


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents with their vectors, and what is known of the whole export.

    ``vectors`` has (len(documents), width) float32 per layer, as they are stored: within 5e-4 of
    unit length, those of an int8 index of unit length. ``n_total`` is the number of documents in
    all batches, ``metadata_types`` has the types of each metadata field's values in the index.
    """

    documents: list[Document]
    vectors: dict[int, Vectors]
    n_total: int
    metadata_types: Mapping[str, set[ValueType]]


def read_batches(
    store: Store, *, where: Where = (), layers: tuple[int, ...] = ()
) -> Generator[Batch, None, None]:
    """Yield the matching documents in input order, at most 900 at a time, with their vectors.

    All layer files are opened before the first batch, so that no compaction can remove one. If
    one has just been removed, reading starts from the commit that removed it.
    """
    while True:
        with store.read() as snapshot:
            try:
                snapshot.hold(layers)
            except FileNotFoundError as error:
                missing = error
            else:
                yield from _batches(snapshot, where, layers)
                return
        check_missing(store, missing, snapshot)


def _batches(snapshot: Snapshot, where: Where, layers: tuple[int, ...]) -> Iterator[Batch]:
    rows = snapshot.rows_in_input_order(where)
    types = snapshot.metadata_types()
    for start in range(0, len(rows), BATCH_DOCUMENTS):
        chunk = rows[start : start + BATCH_DOCUMENTS]
        documents = snapshot.documents(chunk.tolist())
        vectors = {layer: snapshot.layer(layer).gather_stored(chunk) for layer in layers}
        yield Batch([documents[row] for row in chunk.tolist()], vectors, len(rows), types)
