"""Vectors to a file of NumPy's, which `numpy.load` can also map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from layerdex.storage.maintenance.export import Batch


def write_npy(
    file: BinaryIO, batches: Iterator[Batch], *, layers: tuple[int, ...], width: int
) -> list[str]:
    """Write the documents' unit vectors, float32, and return the ids in the order of the rows.

    The array is (n, width) for one layer, and (n, n_layers, width) for several, ascending.
    """
    ids: list[str] = []
    first = next(batches, None)
    n = 0 if first is None else first.n_total
    shape = (n, width) if len(layers) == 1 else (n, len(layers), width)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    while first is not None:
        vectors = np.stack([first.vectors[layer] for layer in layers], axis=1)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        file.write(vectors.astype("<f4", copy=False).tobytes())
        ids += [document.id for document in first.documents]
        first = next(batches, None)
    return ids
