"""The seal: a checksum of the whole catalog whenever no writer is at work."""

from __future__ import annotations

import multiprocessing
import os
import random
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from layerdex import Index
from layerdex.errors import DamagedIndexError, LayerdexError
from layerdex.storage.catalog import seal
from layerdex.storage.catalog.seal import check_seal, seal_path
from layerdex.storage.files import chunks_of
from tests.storage.corpora import flip_byte, ids_of, reopen, rows
from tests.storage.stored import read_versions


@pytest.fixture
def catalog(index: Index) -> Path:
    index.add(rows(9))
    index.delete("d2")
    return index._open.store.path / "catalog.sqlite3"


def test_seal_is_the_checksum_of_the_catalog_and_there_from_the_start(index: Index) -> None:
    catalog = index._open.store.path / "catalog.sqlite3"

    def is_true() -> bool:
        content = seal_path(catalog).read_text(encoding="ascii")
        return content.split()[0] == xxhash.xxh3_64(catalog.read_bytes()).hexdigest()

    assert is_true()
    index.add(rows(3))
    assert is_true()
    index.delete("d1")
    assert is_true()


def test_every_flipped_byte_of_the_catalog_is_found(index: Index, catalog: Path) -> None:
    sound = catalog.read_bytes()
    for at in random.Random(0).sample(range(len(sound)), 60):
        flip_byte(catalog, at)
        with pytest.raises(DamagedIndexError, match="damaged"):
            reopen(index)
        catalog.write_bytes(sound)
    assert len(reopen(index)) == 8


def test_cut_catalog_is_found(index: Index, catalog: Path) -> None:
    os.truncate(catalog, catalog.stat().st_size - 4096)
    with pytest.raises(DamagedIndexError):
        reopen(index)


def test_writer_refuses_a_damaged_catalog_rather_than_sealing_it(
    index: Index, catalog: Path
) -> None:
    flip_byte(catalog, -9)
    target = Index.open(index._open.store.path, damaged=True)
    with pytest.raises(DamagedIndexError, match="wrong checksum"):
        target.delete("d1")
    with pytest.raises(DamagedIndexError, match="wrong checksum"):
        target.compact()
    with pytest.raises(DamagedIndexError, match="wrong checksum"):
        reopen(index)


def test_repair_renews_the_seal_of_a_catalog_whose_rows_are_sound(
    index: Index, catalog: Path
) -> None:
    before = read_versions(index._open.store.path)
    with catalog.open("ab") as file:
        file.write(b"\0" * 4096)  # a page that nothing uses
    target = Index.open(index._open.store.path, damaged=True)
    problems = target.verify()
    assert [str(problem) for problem in problems] == [f"{catalog}: wrong checksum"]
    assert target.repair(problems) == 0
    assert target.verify() == []
    assert read_versions(index._open.store.path) == before
    assert len(reopen(index)) == 8


def test_seal_is_broken_before_the_first_change(
    index: Index, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(*_: object) -> None:
        assert not seal_path(catalog).exists()

    index.add(rows(3, start=20), on_progress=seen)
    assert seal_path(catalog).exists()


def test_failed_writer_leaves_a_true_seal(index: Index, catalog: Path) -> None:
    with pytest.raises(LayerdexError):
        index.add([{"id": "new", "text": "new"}, {"id": "bad", "text": 5}])
    check_seal(catalog)
    assert seal_path(catalog).exists()


def test_log_that_a_reader_holds_leaves_the_catalog_without_a_seal(
    index: Index, catalog: Path
) -> None:
    with index._open.store.read() as snapshot:
        reopen(index).add(rows(2, start=20))
        assert snapshot.n_documents == 8
    assert not seal_path(catalog).exists()
    assert len(reopen(index)) == 10
    index.add(rows(1, start=30))
    assert seal_path(catalog).exists()


def test_full_disk_at_the_seal_is_no_failure(
    index: Index, catalog: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        index.add(rows(1, start=20))
    assert "without its checksum" in caplog.text
    assert [entry for entry in catalog.parent.iterdir() if "crc32" in entry.name] == []
    assert len(reopen(index)) == 9
    index.add(rows(1, start=21))
    assert seal_path(catalog).exists()


@pytest.mark.parametrize("content", [b"", b"0000", b"00000000 00000000\n", b"\xff" * 18])
def test_torn_seal_is_none(index: Index, catalog: Path, content: bytes) -> None:
    seal_path(catalog).write_bytes(content)
    assert len(ids_of(reopen(index))) == 8


def test_a_seal_of_an_older_version_is_a_crc(index: Index, catalog: Path) -> None:
    digits = b"%08x" % zlib.crc32(catalog.read_bytes())
    seal_path(catalog).write_bytes(digits + b" %08x\n" % zlib.crc32(digits))
    assert check_seal(catalog)
    flip_byte(catalog, 5_000)
    with pytest.raises(DamagedIndexError, match="wrong checksum"):
        check_seal(catalog)


def test_writer_that_begins_during_the_check_is_no_damage(
    index: Index, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_calls = 0

    def overtaken(descriptor: int) -> Iterator[bytes]:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            index.delete("d1")
            return iter([b"other"])
        return chunks_of(descriptor)

    monkeypatch.setattr(seal, "chunks_of", overtaken)
    check_seal(catalog)
    assert n_calls > 1


def test_forks_do_not_share_their_place_in_the_catalog(index: Index, catalog: Path) -> None:
    # More than is read at once, so that a shared place would be moved by the others in between.
    index.add([{"id": f"d{i}", "text": f"word{i} " * 1_500} for i in range(600)])
    assert catalog.stat().st_size > 5 << 20
    check_seal(catalog)
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about
        children = [context.Process(target=_check_often, args=(catalog,)) for _ in range(3)]
        for child in children:
            child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]


def _check_often(catalog: Path) -> None:
    for _ in range(20):
        check_seal(catalog)


@pytest.mark.parametrize("content", [b"", b"0000", b"00000000 00000000\n", b"\xff" * 18])
def test_verify_says_that_a_seal_is_torn_and_the_next_writer_renews_it(
    index: Index, catalog: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert index.verify() == []
    assert caplog.text == ""
    seal_path(catalog).write_bytes(content)
    assert index.verify() == []
    assert f"{seal_path(catalog)} is not a checksum" in caplog.text
    assert index.repair([]) == 0
    caplog.clear()
    assert index.verify() == []
    assert caplog.text == ""
    assert check_seal(catalog)


def test_a_missing_seal_is_not_torn(
    index: Index, catalog: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seal_path(catalog).unlink()
    assert index.verify() == []
    assert caplog.text == ""
