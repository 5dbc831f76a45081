"""Reading what is on disk with sqlite3 and FAISS alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import xxhash
from numpy.typing import NDArray

from tests.storage.redigest import redigest


@dataclass(frozen=True)
class Version:
    """A document version, dead ones included; ``vectors`` holds the bytes of each layer."""

    row: int
    id: str
    ordinal: int
    label: str | None
    text: str
    live: bool
    vectors: dict[int, bytes]


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Run SQL on the catalog of the index at ``path``, committing what it changes."""
    with closing(sqlite3.connect(path / "catalog.sqlite3")) as connection, connection:
        found = connection.execute(statement).fetchall()
    if not statement.startswith(("SELECT", "PRAGMA")):
        # As a killed writer leaves it: what is tested is what must be found without the seal.
        (path / "catalog.sqlite3.crc32").unlink(missing_ok=True)
    return found


def layer_paths(path: Path) -> list[Path]:
    return sorted((path / "segments").glob("*/*.faiss"))


def record_of(data: bytes) -> tuple[int, bytes]:
    """Return size and hashes of blocks of a layer file, computed apart from the package."""
    blocks = [data[start : start + (1 << 17)] for start in range(0, len(data), 1 << 17)]
    hashes = [xxhash.xxh3_64(block).intdigest().to_bytes(8, "big") for block in blocks]
    return len(data), b"".join(hashes)


def put_record(path: Path, file: Path) -> None:
    """Make the catalog of the index at ``path`` record a layer file as it is, digests included."""
    size_bytes, hashes = record_of(file.read_bytes())
    query(
        path,
        f"UPDATE segment_file SET size_bytes = {size_bytes}, block_hashes = x'{hashes.hex()}' "
        f"WHERE layer = {int(file.stem[-2:])} AND segment_id = "
        f"(SELECT id FROM segment WHERE name = '{file.parent.name}')",
    )
    redigest(path)


def read_codes(file: Path) -> NDArray[np.floating]:
    """Return the vectors of a layer file as they are, (n, width), whole numbers as float32."""
    index: Any = faiss.read_index(str(file))
    codes: NDArray[np.uint8] = faiss.vector_to_array(index.codes)
    return components(index, codes).reshape(index.ntotal, index.d)


def components(index: Any, codes: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Decode by the type of the index."""
    if isinstance(index, faiss.IndexFlat):
        return codes.view(np.float32)
    if index.sq.qtype == faiss.ScalarQuantizer.QT_8bit_direct_signed:
        return codes.astype(np.float32) - 128
    assert index.sq.qtype == faiss.ScalarQuantizer.QT_fp16
    return codes.view(np.float16)


def read_versions(path: Path) -> list[Version]:
    """Return every version in row order, its vectors found by its place within its segment."""
    vectors: dict[int, dict[int, bytes]] = {}
    for name, first, last in query(path, "SELECT name, first_row, last_row FROM segment"):
        rows = query(
            path, f"SELECT row FROM document WHERE row BETWEEN {first} AND {last} ORDER BY row"
        )
        for file in (path / "segments" / name).glob("layer-*.faiss"):
            codes = read_codes(file)
            assert len(codes) == len(rows), f"{file} and the catalog disagree"
            for (row,), vector in zip(rows, codes, strict=True):
                vectors.setdefault(row, {})[int(file.stem[-2:])] = vector.tobytes()
    found = query(
        path,
        "SELECT row, id, ordinal, label, text, live FROM document JOIN document_text USING (row) "
        "ORDER BY row",
    )
    return [
        Version(row, identifier, ordinal, label, text, bool(live), vectors[row])
        for row, identifier, ordinal, label, text, live in found
    ]


def read_live(path: Path) -> dict[str, Version]:
    """Return the live documents by id."""
    return {version.id: version for version in read_versions(path) if version.live}


def lasting(path: Path) -> dict[str, bytes]:
    """Return the bytes of all files by path, but for the two that readers make, too."""
    files = [file for file in path.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in files
        if not file.name.endswith(("-wal", "-shm"))
    }


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of all layer files by path."""
    return {str(file.relative_to(path)): file.read_bytes() for file in layer_paths(path)}
