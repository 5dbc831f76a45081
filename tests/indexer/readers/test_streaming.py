"""Memory is bounded by a row, not by a source."""

from __future__ import annotations

import json
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layerdex.choices import Format
from layerdex.indexer.readers import read_source
from layerdex.indexer.readers.sources import read_all
from layerdex.records import SourceDocument
from tests.indexer.readers.sources import READ_AS, WRITERS, documents

MIB = 1 << 20
FILES = [kind for kind in READ_AS if kind in WRITERS]


def peak_bytes(action: Callable[[], None]) -> int:
    """Return how much more Python memory an action had at its height."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [*FILES, "txt"])
def test_text_of_ten_megabytes_is_read_with_little_memory(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    text = "wörd " * 2_000_000
    if kind == "txt":
        path.write_text(text)
    else:
        WRITERS[kind]([{"text": text}], path)
    lengths: list[int] = []

    def read() -> None:
        for one in read_source(path):
            assert isinstance(one, SourceDocument)
            lengths.append(len(one.text))

    assert peak_bytes(read) < 100 * MIB
    assert lengths == [10_000_000]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_complete_rows_of_a_pipe_do_not_wait_for_more(kind: str, tmp_path: Path) -> None:
    n_rows = 3_000  # more than the 64 KiB that tell format and encoding
    WRITERS[kind]([{"text": f"text {i} {'x' * 40}"} for i in range(n_rows)], tmp_path / "a")
    reading, writing = os.pipe()
    found: Queue[object] = Queue()

    def read() -> None:
        with os.fdopen(reading, "rb") as stdin:
            for one in read_source("-", format=Format(kind), stdin=stdin):
                found.put(one)
        found.put(None)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write((tmp_path / "a").read_bytes())
        pipe.flush()
        # All but the last, which a csv ends only where the next row begins.
        documents = [found.get(timeout=30) for _ in range(n_rows - 1)]
        assert all(isinstance(one, SourceDocument) for one in documents)
    reader.join()
    assert found.get(timeout=30) is not None


def test_a_pipe_that_does_not_block_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            for i in range(40):
                pipe.write(f"text {i} {'x' * 4_000}\n".encode())
                pipe.flush()
                time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as stdin:
        assert sum(1 for _ in read_source("-", format=Format.TXT, stdin=stdin)) == 40
    writer.join()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", [*FILES, "txt"])
def test_source_is_not_read_whole(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    # Rows cost time, and their bytes do not; a parquet batch is of rows.
    n_rows, n_characters = (40_000, 1_000) if kind == "parquet" else (4_000, 10_000)
    text = "x" * n_characters
    if kind == "txt":
        path.write_text(f"{text}\n" * n_rows)
    else:
        WRITERS[kind]([{"text": text}] * n_rows, path)

    def read() -> None:
        assert sum(1 for _ in read_source(path)) == n_rows

    # the 40 MB of text never lie in memory together; a parquet batch is 16 MiB at most
    assert peak_bytes(read) < 20 * MIB


def test_parquet_batches_are_short_where_texts_are_long(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"{i:03}" * 700_000 for i in range(64)]
    pq.write_table(pa.table({"text": texts}), path, use_dictionary=False, write_batch_size=1)
    readings: Iterator[object] = read_source(path)
    pa.default_memory_pool().release_unused()
    before = pa.total_allocated_bytes()
    next(readings)
    # all 64 texts are 134 MB
    assert pa.total_allocated_bytes() - before < 64 * MIB
    readings.close()  # type: ignore[attr-defined]


def test_first_document_comes_before_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" + json.dumps({"text": "first"}) + "," + " " * 1_000_000 + "broken")
    readings = read_source(path)
    assert documents([next(readings)])[0].text == "first"
    readings.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [*FILES, "txt"])
def test_bytes_read_are_counted_to_the_end(kind: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"]
    for path in paths:
        if kind == "txt":
            path.write_bytes(b"\xef\xbb\xbf" + b"x\n" * 40_000)
        else:
            WRITERS[kind]([{"text": f"{i}"} for i in range(15_000)], path)
    counts: list[tuple[int, int]] = []
    readings = read_all(paths, on_bytes=lambda done, total: counts.append((done, total)))
    next(readings)
    first, size = counts[-1][0], sum(path.stat().st_size for path in paths)
    assert 0 < first < size / 2
    assert sum(1 for _ in readings) > 0
    assert counts == sorted(counts)
    assert {total for _, total in counts} == {size}
    assert counts[-1][0] == size


def test_bytes_are_not_counted_where_a_source_has_no_size(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x\n")
    counts: list[object] = []
    for other in (tmp_path, [{"text": "a"}]):
        readings = read_all([path, other], on_bytes=lambda *count: counts.append(count))
        assert len(list(readings)) == 2
    assert counts == []


def test_frame_is_not_copied_whole() -> None:
    from layerdex.indexer.readers import read_frame

    frame = pd.DataFrame({"text": ["x"] * 50_000, "n": range(50_000)})

    def read() -> None:
        assert sum(1 for _ in read_frame(frame)) == 50_000

    assert peak_bytes(read) < 3 * MIB
