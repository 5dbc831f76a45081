"""Rows beyond 32 bits: an index whose counters stand near a boundary answers as any other."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from xxhash import xxh3_64_digest

from layerdex import Index, LabelTask
from layerdex.choices import StoredPrecision
from layerdex.storage.vectors.codecs import codec_of
from layerdex.storage.vectors.layer_file import LayerFile
from layerdex.storage.vectors.segment_file import BLOCK_BYTES, SegmentFile
from tests.encoders import WordEncoder
from tests.results import first
from tests.storage.corpora import ids_of, reopen, rows
from tests.storage.redigest import redigest
from tests.storage.stored import query


def advanced(path: Path, row: int) -> Index:
    """Make an index whose next row and ordinal are ``row``."""
    Index.create(path, model=WordEncoder())
    query(path, f"UPDATE setting SET value = '{row}' WHERE key LIKE 'next_%'")
    query(path, f"UPDATE setting SET value = '{row}' WHERE key = 'commits'")
    redigest(path)
    return Index.open(path, encoder=WordEncoder())


@pytest.mark.one_in(2)
@pytest.mark.parametrize("row", [(1 << 31) - 12, (1 << 32) - 12, (1 << 53) - 12, (1 << 62) - 100])
def test_rows_near_a_boundary_are_only_numbers(tmp_path: Path, row: int) -> None:
    large, small = advanced(tmp_path / "large", row), advanced(tmp_path / "small", 1)
    for index in (large, small):
        index.add(rows(24))
        index.add([{"id": "d3", "text": "changed three", "label": "l0"}])
        index.delete("d5", "d20")
    assert query(large.path, "SELECT max(row) - 1 FROM document") == [(row + 23,)]
    for _ in range(2):
        assert ids_of(large) == ids_of(small)
        for where in (None, "size>10", "label in l1,l2"):
            for text in ("text number7 of 2", "changed"):
                answers = [
                    [(hit.id, hit.similarity) for hit in first(i.search(text, k=9, where=where))]
                    for i in (large, small)
                ]
                assert answers[0] == answers[1]
        like = [[hit.id for hit in first(i.search_like("d8", k=5))] for i in (large, small)]
        assert like[0] == like[1]
        labels = [[p.label for p in i.classify(["text number7"], k=3)] for i in (large, small)]
        assert labels[0] == labels[1]
        assert large.evaluate(LabelTask(k=3)).layers == small.evaluate(LabelTask(k=3)).layers
        kept = [i.deduplicate(threshold=0.6) for i in (large, small)]
        assert kept[0].kept == kept[1].kept
        assert large.verify() == []
        assert large.compact() == small.compact()
        large, small = reopen(large), reopen(small)
    assert large.backup(tmp_path / "copy") == 22
    assert ids_of(Index.open(tmp_path / "copy")) == ids_of(small)


def _hashes(path: Path) -> bytes:
    """Hash the blocks of a file that is mostly zeros, those of zeros once."""
    zeros = bytes(BLOCK_BYTES)
    of_zeros, size = xxh3_64_digest(zeros), path.stat().st_size
    hashes = []
    with path.open("rb", buffering=0) as file:
        for start in range(0, size, BLOCK_BYTES):
            is_hole = os.lseek(file.fileno(), start, os.SEEK_DATA) >= start + BLOCK_BYTES
            block = b"" if is_hole else os.pread(file.fileno(), BLOCK_BYTES, start)
            hashes.append(of_zeros if is_hole else xxh3_64_digest(block))
    return b"".join(hashes)


@pytest.mark.soak
def test_a_layer_file_of_more_than_four_gibibytes_is_searched_to_its_end(tmp_path: Path) -> None:
    codec, width = codec_of(StoredPrecision.FLOAT32), 1024
    n = (1 << 32) // (4 * width) + 100
    vector = np.zeros((1, width), dtype=np.float32)
    vector[0, 5] = 1
    path, header = tmp_path / "layer-00.faiss", codec.header(n, width)
    with path.open("wb") as file:  # zeros that take no room on the disk
        file.write(header)
        file.seek((n - 2) * 4 * width, 1)
        file.write(vector.tobytes())
        file.truncate(len(header) + n * 4 * width)
    size = path.stat().st_size
    assert size > 1 << 32
    recorded = SegmentFile(size, None, _hashes(path))
    layer = LayerFile(path, recorded, n=n, width=width, codec=codec)
    np.testing.assert_array_equal(layer.decode(np.array([n - 2])), vector)
    last = np.arange(n) == n - 2
    for allowed in (None, last):
        products, positions = layer.scan(vector, 1, allowed=allowed)
        assert (products.tolist(), positions.tolist()) == ([1.0], [n - 2])
