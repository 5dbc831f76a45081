"""Documents and their vectors in input order, all of one commit."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

from layerdex.records import Document, Vectors
from layerdex.storage.catalog.metadata import Kind
from layerdex.storage.catalog.rows import CHUNK
from layerdex.storage.snapshot import Snapshot, Where
from layerdex.storage.store import Store


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents, and of all: how many they are, and the types of each metadata field.

    ``vectors`` has by layer (len(documents), width) float32, as they are kept: within 5e-4 of unit
    length, those of an int8 index of unit length.
    """

    documents: list[Document]
    vectors: dict[int, Vectors]
    n_total: int
    kinds: Mapping[str, set[Kind]]


def read_batches(
    store: Store, *, where: Where = (), layers: tuple[int, ...] = ()
) -> Generator[Batch, None, None]:
    """Yield the documents that match, at most 900 at a time, with their vectors at ``layers``.

    Layer files are all opened before the first batch, so that no compaction can take one away;
    if one has just gone, reading begins with the commit that did it.
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
        store.check_missing(missing, snapshot.mark)


def _batches(snapshot: Snapshot, where: Where, layers: tuple[int, ...]) -> Iterator[Batch]:
    rows = snapshot.rows_in_input_order(where)
    kinds = snapshot.metadata_kinds()
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        found = snapshot.documents(chunk.tolist())
        vectors = {layer: snapshot.layer(layer).gather_stored(chunk) for layer in layers}
        yield Batch([found[row] for row in chunk.tolist()], vectors, len(rows), kinds)
