"""What a child process does with changed samples until its time is over."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from layerdex.choices import StoredPrecision
from layerdex.errors import LayerdexError
from layerdex.indexer.readers import read_source
from layerdex.storage.vectors.codecs import codec_of
from layerdex.storage.vectors.layer_file import LayerFile
from layerdex.storage.vectors.segment_file import SegmentFile
from tests.fuzz import samples
from tests.fuzz.mutate import mutate

READERS = [
    *(f"layer-{precision}" for precision in StoredPrecision),
    *samples.documents(),
]
"""The segment reader at each precision, and the document readers by suffix."""


@dataclass
class Tally:
    """What became of one reader's executions: ``finds`` are neither an answer nor an error of ours.

    ``refused`` were one of Layerdex's errors, the rest was read.
    """

    executions: int = 0
    refused: int = 0
    finds: list[str] = field(default_factory=list)


def fuzz(
    reader: str, folder: Path, seed: int, seconds: float, count: int | None, current: Connection
) -> Tally:
    """Read changed samples until the time is over or so many are done.

    ``current`` is told of each seed before it is tried. Each execution has a seed of its own, so
    that one alone can be tried again.
    """
    read, given = reader_of(reader), samples_of(reader)
    path = folder / f"sample.{reader}"
    tally, end = Tally(), time.monotonic() + seconds
    while time.monotonic() < end and tally.executions != count:
        current.send(seed)
        path.unlink(missing_ok=True)  # a mapped file is never written over
        path.write_bytes(mutate(given, random.Random(seed)))
        try_once(read, path, seed, tally)
        seed += 1
    return tally


def try_once(read: Callable[[Path], None], path: Path, seed: int, tally: Tally) -> None:
    """Read one file and note what came of it."""
    tally.executions += 1
    try:
        read(path)
    except LayerdexError as error:
        tally.refused += 1
        if "\n" in str(error):
            tally.finds.append(f"seed {seed}: an error of several lines: {str(error)!r}")
    except Exception:
        tally.finds.append(f"seed {seed}: {traceback.format_exc(limit=-3)}")


def samples_of(reader: str) -> list[bytes]:
    """Return the valid samples of a reader."""
    kind = reader.removeprefix("layer-")
    if kind != reader:
        return samples.layers(StoredPrecision(kind))
    return samples.documents()[reader]


def reader_of(reader: str) -> Callable[[Path], None]:
    """Return what reads a file to its end, and asks what can be asked of it."""
    kind = reader.removeprefix("layer-")
    if kind == reader:
        return _read_documents
    return lambda path: _read_layer(path, StoredPrecision(kind))


def _read_documents(path: Path) -> None:
    for _ in read_source(path):
        pass


def _read_layer(path: Path, precision: StoredPrecision) -> None:
    """Read a layer file as under the catalog of a forger, whose size and checksum fit."""
    file = LayerFile(
        path,
        SegmentFile.of(np.fromfile(path, dtype=np.uint8)),
        n=samples.N,
        width=samples.WIDTH,
        codec=codec_of(precision),
    )
    with np.errstate(all="ignore"):  # components of any bits
        file.decode(slice(None))
        query = np.ones((1, samples.WIDTH), dtype=np.float32)
        file.scan(query, 3, allowed=None)
        file.scan(query, 3, allowed=np.array([True, False, True, True, False]))
