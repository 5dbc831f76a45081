"""Stored vectors as NumPy arrays, in memory or in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from layerdex.arguments import check_type, format_value
from layerdex.errors import LayerError
from layerdex.index.open_index import OpenIndex
from layerdex.index.target_options import default_layer
from layerdex.layers import LayerSelection
from layerdex.records import OnProgress, Vectors
from layerdex.storage.catalog.filters import Where
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.writer import check_found


def vectors_of(index: OpenIndex, layer: LayerSelection | None, ids: Sequence[str]) -> Vectors:
    """Return the unit vectors of documents, (len(ids), width); see `Index.vectors`."""
    for document_id in ids:
        check_type(document_id, str, what="an id is a string")

    def question(snapshot: Snapshot) -> Vectors:
        number = _resolve(index, snapshot, layer)
        versions = snapshot.versions(ids)
        check_found(ids, versions)
        rows = [versions[document_id].row for document_id in ids]
        return snapshot.layer(number).gather(np.array(rows, dtype=np.int64))

    return index.query(question)


def all_vectors(
    index: OpenIndex, layer: LayerSelection | None, where: Where
) -> tuple[list[str], Vectors]:
    """Return ids in input order, and the unit vectors (n, width) of one commit."""

    def question(snapshot: Snapshot) -> tuple[list[str], Vectors]:
        number = _resolve(index, snapshot, layer)
        table = snapshot.document_table(where)
        order = np.argsort(table.ordinals)
        ids = [table.ids[i] for i in order.tolist()]
        return ids, snapshot.layer(number).gather(table.rows[order])

    return index.query(question)


def export_vectors(
    index: OpenIndex,
    path: Path,
    *,
    where: Where,
    layers: LayerSelection | None,
    on_progress: OnProgress | None,
) -> int:
    """Write vectors to an .npy file and ids to the file beside it; see `Index.export`."""
    from layerdex.indexer.writers.documents import report_progress
    from layerdex.indexer.writers.npy import write_npy
    from layerdex.storage.files import atomic_write
    from layerdex.storage.maintenance.export import read_batches

    if layers is None:
        layers = index.query(lambda snapshot: default_layer(index, snapshot))
    resolved = index.resolve_layers(layers)
    batches = read_batches(index.store, where=where, layers=resolved)
    with (
        closing(batches),
        atomic_write(ids_beside(path)) as ids_file,
        atomic_write(path) as vectors_file,
    ):
        with vectors_file.open("wb") as file:
            reported = report_progress(batches, on_progress)
            ids = write_npy(file, reported, layers=resolved, width=index.store.settings.width)
        ids_file.write_text(json.dumps(ids, ensure_ascii=False) + "\n", encoding="utf-8")
        # Killed between the two renames, no ids are left rather than those of another file.
        ids_beside(path).unlink(missing_ok=True)
    return len(ids)


def ids_beside(path: Path) -> Path:
    """Return where the ids of an .npy file's rows are: ``x.ids.json`` beside ``x.npy``."""
    return path.with_suffix(".ids.json")


def _resolve(index: OpenIndex, snapshot: Snapshot, layer: LayerSelection | None) -> int:
    if layer is None:
        return default_layer(index, snapshot)
    layers = index.resolve_layers(layer)
    if len(layers) != 1:
        raise LayerError(f"vectors are of one layer, got {format_value(layer)}")
    return layers[0]
