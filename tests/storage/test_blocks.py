"""Hashes of blocks: what an answer reads is checked, and nothing else."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from xxhash import xxh3_64_digest

from layerdex import Index
from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError, StorageError
from layerdex.storage.catalog import revisions
from layerdex.storage.vectors import layer_file, segment_file
from layerdex.storage.vectors.codecs import codec_of
from layerdex.storage.vectors.layer_file import LayerFile, serialize_layer
from layerdex.storage.vectors.segment_file import BLOCK_BYTES, SegmentFile
from tests.encoders import WordEncoder
from tests.limited import run_limited
from tests.results import first
from tests.storage.corpora import flip_byte, reopen, rows
from tests.storage.older_schemas import bring_to_schema_0003
from tests.storage.stored import contents, layer_paths, query, read_live, record_of

WIDTH, N = 96, 3_000  # five blocks of float16
CODEC = codec_of(StoredPrecision.FLOAT16)
HEADER = len(CODEC.header(N, WIDTH))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((N, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@pytest.fixture
def written(tmp_path: Path, vectors: np.ndarray) -> tuple[Path, SegmentFile]:
    data = serialize_layer(CODEC.encode(vectors), CODEC)
    path = tmp_path / "layer-00.faiss"
    data.tofile(path)
    return path, SegmentFile.of(data)


def _open(written: tuple[Path, SegmentFile]) -> LayerFile:
    return LayerFile(*written, n=N, width=WIDTH, codec=CODEC)


def _block_of(position: int) -> int:
    return (HEADER + position * WIDTH * 2) // BLOCK_BYTES


def test_hashes_are_those_of_blocks_by_size(written: tuple[Path, SegmentFile]) -> None:
    path, recorded = written
    data = path.read_bytes()
    assert (recorded.size_bytes, recorded.block_hashes) == record_of(data)
    assert recorded.n_blocks == 5
    assert recorded.is_valid
    for size in (1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1):
        part = np.frombuffer(data[:size], dtype=np.uint8)
        of_part = SegmentFile.of(part)
        assert (of_part.size_bytes, of_part.block_hashes) == record_of(data[:size])
        assert of_part.matches(part)
        assert not of_part.matches(part[:-1])
        assert not of_part.matches(part ^ np.uint8(1))


READINGS: dict[str, Callable[[LayerFile, np.ndarray], object]] = {
    "codes": lambda file, at: file.codes(at),
    "decode": lambda file, at: file.decode(at),
    "decode_stored": lambda file, at: file.decode_stored(at),
    "a slice": lambda file, at: file.decode(slice(int(at.min()), int(at.max()) + 1)),
}


@pytest.mark.parametrize("reading", READINGS)
def test_each_reading_checks_its_blocks_and_no_others(
    written: tuple[Path, SegmentFile], vectors: np.ndarray, reading: str
) -> None:
    """Every vector is read with one byte changed: its first, its last, or none of its own."""
    path, _ = written
    read, sound = READINGS[reading], path.read_bytes()
    draw = np.random.default_rng(1)
    # Also those beside an edge, which have bytes in two blocks.
    edges = [(BLOCK_BYTES * k - HEADER) // (WIDTH * 2) for k in range(1, 5)]
    for position in {0, N - 1, *edges, *draw.integers(N, size=20).tolist()}:
        other = int(draw.integers(N))
        own = HEADER + position * WIDTH * 2
        for at in (own, own + WIDTH * 2 - 1, HEADER + other * WIDTH * 2):
            damaged = bytearray(sound)
            damaged[at] ^= 0x10
            path.write_bytes(damaged)
            blocks = {_block_of(position), (own + WIDTH * 2 - 1) // BLOCK_BYTES, 0}  # 0: on opening
            is_read = at // BLOCK_BYTES in blocks
            try:
                found = read(_open(written), np.array([position]))
            except DamagedIndexError as error:
                message = f"{path} is damaged (wrong checksum): run 'layerdex repair' on this index"
                assert (is_read, str(error)) == (True, message)  # noqa: PT017
            else:
                assert not is_read
                expected = CODEC.encode(vectors[position : position + 1])
                if reading == "codes":
                    np.testing.assert_array_equal(found, expected)
    path.write_bytes(sound)


@pytest.mark.parametrize("at", [HEADER, BLOCK_BYTES, N * WIDTH * 2, HEADER + N * WIDTH * 2 - 1])
def test_a_scan_checks_the_whole_file(
    written: tuple[Path, SegmentFile], vectors: np.ndarray, at: int
) -> None:
    path, _ = written
    flip_byte(path, at)
    allowed = np.zeros(N, dtype=np.bool_)
    allowed[:1] = True
    for mask in (None, allowed):
        with pytest.raises(DamagedIndexError, match=r"wrong checksum.*layerdex repair"):
            _open(written).scan(vectors[:1], 3, allowed=mask)


def test_a_block_is_read_again_without_a_second_check(
    written: tuple[Path, SegmentFile], vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []

    def count(data: bytes) -> bytes:
        hashed.append(len(data))
        return xxh3_64_digest(data)

    monkeypatch.setattr(segment_file, "xxh3_64_digest", count)
    file = _open(written)
    assert len(hashed) == 1
    for _ in range(2):
        file.decode(np.array([N - 1, 0, N - 1]))
        assert len(hashed) == 3  # the first block as it was read, and as it is mapped
    for _ in range(2):
        file.scan(vectors[:1], 3, allowed=None)
        assert len(hashed) == 6
    assert file.codes(np.empty(0, np.int64)).shape == (0, WIDTH * 2)
    assert file.codes(slice(5, 5)).shape == (0, WIDTH * 2)


def test_all_blocks_stay_checked_whatever_another_thread_found(
    written: tuple[Path, SegmentFile],
) -> None:
    file = _open(written)  # which keeps the bytes mapped
    blocks = file._blocks
    starts, stops = np.array([0]), np.array([written[1].size_bytes])
    assert blocks.are_sound(starts, stops)
    assert blocks.are_all_checked
    blocks.are_all_checked = False  # as when two threads ended at once
    assert blocks.are_sound(starts, stops)
    assert blocks.are_all_checked


def test_a_file_with_the_hashes_of_another_commit_is_not_current(
    written: tuple[Path, SegmentFile],
) -> None:
    """As one has that was opened after a repair had renamed it and before it had committed."""
    path, recorded = written
    file = _open(written)
    assert file.is_current(path, replace(recorded))
    assert not file.is_current(path, replace(recorded, block_hashes=bytes(5 * 8)))
    assert not file.is_current(path, None)
    path.replace(path.with_name("gone"))
    assert not file.is_current(path, recorded)


def test_vectors_longer_than_a_block_are_checked_in_every_block(tmp_path: Path) -> None:
    width, codec = 3 * BLOCK_BYTES // 4, codec_of(StoredPrecision.FLOAT32)
    one = np.zeros((3, width), dtype=np.float32)
    one[:, 7] = 1
    data = serialize_layer(codec.encode(one), codec)
    path, header = tmp_path / "layer-00.faiss", len(codec.header(3, width))
    for block in range(1, len(data) // BLOCK_BYTES):
        data.tofile(path)
        flip_byte(path, block * BLOCK_BYTES + 99)
        for position in range(3):
            start = header + position * width * 4
            file = LayerFile(path, SegmentFile.of(data), n=3, width=width, codec=codec)
            if start // BLOCK_BYTES <= block <= (start + width * 4 - 1) // BLOCK_BYTES:
                with pytest.raises(DamagedIndexError):
                    file.decode(np.array([position]))
            else:
                np.testing.assert_array_equal(file.decode(np.array([position])), one[:1])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of few vectors, so that a small index has many."""
    size = 256
    monkeypatch.setattr(segment_file, "BLOCK_BYTES", size)
    monkeypatch.setattr(layer_file, "BLOCK_BYTES", size)
    return size


def test_damage_that_no_answer_reads_is_found_by_verify_compaction_and_backup(
    tmp_path: Path, small_blocks: int
) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder(window=100), layers=3)
    index.add(rows(90))
    sound = contents(index.path)
    (file,) = layer_paths(index.path)
    flip_byte(file, -3)  # of the last document

    def near(where: str) -> set[str]:
        return {hit.id for hit in first(reopen(index).search("number1", k=3, where=where))}

    assert near("id in d3,d4") == {"d3", "d4"}  # a filter of few reads these alone
    with pytest.raises(DamagedIndexError, match=rf"{file}.*wrong checksum.*layerdex repair"):
        near("id in d3,d89")
    with pytest.raises(DamagedIndexError, match=rf"{file}.*wrong checksum.*layerdex repair"):
        near("size>=0")
    assert [(p.path, p.reason) for p in reopen(index).verify()] == [(file, "wrong checksum")]
    index.delete("d0")
    with pytest.raises(DamagedIndexError, match="wrong checksum"):
        reopen(index).compact()
    for _ in range(2):  # with dead versions and without
        with pytest.raises((DamagedIndexError, StorageError), match="repair"):
            reopen(index).backup(tmp_path / "copy")
        assert index.repair(reopen(index).verify()) == 1
        assert contents(index.path) == sound
        index.compact()
        (file,) = layer_paths(index.path)
        sound = contents(index.path)
        flip_byte(file, -3)


@pytest.fixture
def older(tmp_path: Path, small_blocks: int) -> Path:
    """Two segments of schema 0003, which has checksums of whole files."""
    index = Index.create(tmp_path / "index", model=WordEncoder(window=30), layers=3)
    index.add(rows(60))
    index.delete("d3")
    bring_to_schema_0003(index.path)
    return index.path


def _records(path: Path) -> list[tuple[object, ...]]:
    return query(path, "SELECT crc32 IS NULL, block_hashes IS NULL FROM segment_file")


def test_an_index_of_the_schema_before_keeps_its_checksums_until_its_files_are_rewritten(
    older: Path,
) -> None:
    before, files = read_live(older), contents(older)
    index = Index.open(older, encoder=WordEncoder(window=30))
    assert query(older, "SELECT version_num FROM alembic_version") == [(revisions.SCHEMA_VERSION,)]
    assert index.verify() == []
    assert contents(older) == files
    assert _records(older) == [(0, 1)] * 2
    index.add(rows(10, start=60))
    assert sorted(_records(older)) == [(0, 1), (0, 1), (1, 0)]
    assert index.backup(older.with_name("copy")) == 69
    # The segment with a dead version is copied without it, the others as they are.
    assert sorted(_records(older.with_name("copy"))) == [(0, 1), (1, 0), (1, 0)]
    index.compact()
    assert _records(older) == [(1, 0)]
    assert {name: read_live(older)[name] for name in before} == before
    assert (index.verify(), Index.open(older.with_name("copy")).verify()) == ([], [])


@pytest.mark.parametrize("at", [0, 300, -3])
def test_damage_of_an_older_file_is_found_wherever_it_is(older: Path, at: int) -> None:
    file = layer_paths(older)[0]
    sound = file.read_bytes()
    flip_byte(file, at)
    index = Index.open(older, encoder=WordEncoder(window=30))
    for where in (None, "id in d4,d35"):
        with pytest.raises(DamagedIndexError, match=rf"{file}.*wrong checksum.*layerdex repair"):
            index.search("number1", k=1, where=where)
    assert [(p.path, p.reason) for p in index.verify()] == [(file, "wrong checksum")]
    assert index.repair(index.verify()) == 1
    assert file.read_bytes() == sound
    assert sorted(_records(older)) == [(0, 1), (1, 0)]
    assert index.verify() == []


def _read_shortened(path: Path, recorded: SegmentFile) -> dict[str, str]:
    """Read a file that gets shorter once it is mapped; return what was said."""
    size_bytes, said = recorded.size_bytes, {}
    for name, read in READINGS.items():
        os.truncate(path, size_bytes)
        file = _open((path, recorded))
        os.truncate(path, 2 * BLOCK_BYTES)
        file.decode(np.array([0]))
        try:
            read(file, np.array([N // 2, N - 1]))
        except DamagedIndexError as error:
            said[name] = str(error)
    os.truncate(path, size_bytes)
    file = _open((path, recorded))
    os.truncate(path, 0)  # also of the block that was read when it was opened
    try:
        file.decode(np.array([0]))
    except DamagedIndexError as error:
        said["first block"] = str(error)
    return said


def test_what_the_kernel_cannot_read_is_damage_and_no_crash(
    written: tuple[Path, SegmentFile],
) -> None:
    """A page behind the end of a file has the fault of a sector that cannot be read."""
    path, _ = written
    outcome = run_limited(_read_shortened, *written, memory_bytes=1 << 30, timeout_s=60)
    if outcome.exit_code == -signal.SIGBUS and not _tells_what_it_cannot_read():
        pytest.skip("this kernel is older than 5.14")
    assert outcome.exit_code == 0
    assert outcome.result.keys() == {*READINGS, "first block"}
    for message in outcome.result.values():
        assert message.startswith(f"{path} is damaged (wrong checksum): run 'layerdex repair'")


def _tells_what_it_cannot_read() -> bool:
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return (int(major), int(minor)) >= (5, 14)


def test_a_sector_that_cannot_be_read_is_found_and_mended(
    tmp_path: Path, small_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder(window=100), layers=[2, 3])
    index.add(rows(90))
    sound = contents(index.path)
    file, _ = layer_paths(index.path)
    bad_inode = file.stat().st_ino

    class OnBadDisk(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            if os.fstat(self.fileno()).st_ino == bad_inode and self.tell() > small_blocks:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    monkeypatch.setattr(layer_file, "open_own", lambda path: OnBadDisk(io.FileIO(path)))
    problems = reopen(index).verify()
    assert [(p.path, p.reason) for p in problems] == [(file, "the disk cannot read it")]
    assert index.repair(problems) == 1
    assert (contents(index.path), index.verify()) == (sound, [])
