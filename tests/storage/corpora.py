"""Small corpora that the tests of storage share."""

from __future__ import annotations

from pathlib import Path

from layerdex import Index
from tests.encoders import WordEncoder

Row = dict[str, object]


def rows(n: int, *, start: int = 0) -> list[Row]:
    """Documents with ids, labels and metadata, all texts different."""
    return [
        {"id": f"d{i}", "text": f"text number{i} of {i % 5}", "label": f"l{i % 3}", "size": i}
        for i in range(start, start + n)
    ]


def reopen(index: Index) -> Index:
    """Another reader or writer of the same directory."""
    return Index.open(index._open.store.path, encoder=WordEncoder())


def ids_of(index: Index) -> list[str]:
    return [document.id for document in index.documents()]


def flip_byte(path: Path, at: int = -3) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(bytes(data))
