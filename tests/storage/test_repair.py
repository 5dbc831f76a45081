"""Repair: damaged layer files are rebuilt from the texts, and nothing else is touched."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, IndexMismatchError, LayerdexError
from layerdex.indexer.pipeline import repair
from layerdex.indexer.text.windows import split_windows
from layerdex.records import Encoded
from tests.encoders import WordEncoder
from tests.results import first
from tests.storage.corpora import flip_byte, ids_of, reopen, rows
from tests.storage.stored import contents, layer_paths, query, read_live


@pytest.fixture
def filled(index: Index) -> Index:
    """Three segments, one of which holds a dead version."""
    index.add(rows(18))
    index.delete("d2")
    return index


def _damage(path: Path) -> list[Path]:
    """Flip a byte of one file, cut one, remove one, and one whole segment."""
    first, second, third = sorted({file.parent for file in layer_paths(path)})
    flip_byte(first / "layer-00.faiss")
    cut = first / "layer-02.faiss"
    cut.write_bytes(cut.read_bytes()[:50])
    (second / "layer-03.faiss").unlink()
    shutil.rmtree(third)
    return [first, second, third]


def test_repair_restores_identical_bytes(filled: Index) -> None:
    path = filled._open.store.path
    before, catalog = contents(path), query(path, "SELECT * FROM segment_file")
    _damage(path)
    target = Index.open(path, encoder=WordEncoder(), damaged=True)
    steps: list[tuple[int, int | None]] = []
    n_files = target.repair(
        target.verify(), on_progress=lambda done, total: steps.append((done, total))
    )
    assert n_files == 2 + 1 + 4
    assert len(steps) >= 3
    assert sorted(steps) == steps  # in documents
    assert steps[-1][0] == steps[-1][1]
    assert contents(path) == before
    assert query(path, "SELECT * FROM segment_file") == catalog
    assert target.verify() == []
    assert first(reopen(filled).search("text number9 of 4", k=1, layer=3))[0].id == "d9"


class _Dependent(WordEncoder):
    """Its vectors depend on the texts encoded together, as those of a batch do a little."""

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        encoded = super().encode([f"{text} batch{len(texts)}" for text in texts], layers)
        self.encoded[-len(texts) :] = texts
        return encoded


def test_the_windows_of_a_merged_segment_are_found_again(tmp_path: Path) -> None:
    encoder = _Dependent(window=5)
    encoder.settings = replace(encoder.settings, max_length=20, window_bytes=50)
    texts = ["word " * (1 + n % 7) + str(n) for n in range(80)]
    index = Index.create(tmp_path / "merged", model=encoder)
    index.add([{"text": text} for text in texts])
    path = index._open.store.path
    assert len(query(path, "SELECT * FROM segment")) == 1
    before = contents(path)
    layer_paths(path)[1].unlink()
    target = Index.open(path, encoder=encoder, damaged=True)
    assert target.repair(target.verify()) == 1
    assert contents(path) == before


class _Watching(_Dependent):
    """It notes the sizes of the new files before each window, and may fail at the third."""

    path: Path
    sizes: list[list[int]]
    error: BaseException | None = None

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        new = self.path.glob("segments/*.new/*")
        self.sizes.append([path.stat().st_size for path in sorted(new)])
        if self.error is not None and len(self.sizes) == 3:
            raise self.error
        return super().encode(texts, layers)


def _watched(tmp_path: Path) -> tuple[Index, _Watching]:
    """Return an index of one segment with many windows, and its encoder."""
    encoder = _Watching(window=5)
    encoder.path, encoder.sizes = tmp_path / "index", []
    encoder.settings = replace(encoder.settings, max_length=20, window_bytes=50)
    index = Index.create(encoder.path, model=encoder)
    index.add([{"text": "word " * (1 + n % 7) + str(n)} for n in range(80)])
    return index, encoder


def _repair(encoder: _Watching) -> int:
    encoder.sizes = []
    target = Index.open(encoder.path, encoder=encoder, damaged=True)
    return target.repair(target.verify())


def test_each_window_is_written_before_the_next_is_encoded(tmp_path: Path) -> None:
    index, encoder = _watched(tmp_path)
    before = contents(encoder.path)
    for path in layer_paths(encoder.path)[:2]:
        flip_byte(path)
    texts = encoder.encoded[: len(index)]
    assert _repair(encoder) == 2
    windows = [len(window) for window in split_windows(texts, index._open.store.settings)]
    bytes_each = index._open.store.settings.width * 2
    header = encoder.sizes[0][0]
    written = [header + sum(windows[:n]) * bytes_each for n in range(len(windows))]
    assert encoder.sizes == [[n_bytes] * 2 for n_bytes in written]
    assert len(windows) > 3
    assert header < bytes_each * 5
    assert contents(encoder.path) == before


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        TimeoutError("the model's server"),
        OSError(errno.ENOSPC, "no room for a cache"),
        sqlite3.DatabaseError("of another database"),
        "ü\ud800".encode,
    ],
)
def test_an_error_of_the_encoder_is_its_own_and_leaves_the_index_as_it_was(
    tmp_path: Path, error: BaseException | Callable[[], bytes]
) -> None:
    _, encoder = _watched(tmp_path)
    if not isinstance(error, BaseException):
        with pytest.raises(UnicodeEncodeError) as caught:
            error()
        error = caught.value
    flip_byte(layer_paths(encoder.path)[0])
    (folder,) = encoder.path.glob("segments/*")
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    encoder.error = error
    with pytest.raises(type(error)) as caught_again:
        _repair(encoder)
    assert caught_again.value is error
    assert folder.is_symlink()
    assert [*encoder.path.glob("segments/*")] == [folder]
    encoder.error = None
    assert _repair(encoder) == len(Index.open(encoder.path, encoder=encoder).layers)
    assert not folder.is_symlink()


@pytest.mark.parametrize(("n_files", "n_passes"), [(4, 1), (2.9, 2), (1.2, 4), (0, 4)])
def test_layers_are_restored_in_as_many_passes_as_the_disk_has_room_for(
    tmp_path: Path, n_files: float, n_passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, encoder = _watched(tmp_path)
    before = contents(encoder.path)
    damaged = layer_paths(encoder.path)
    assert len(damaged) == 4
    n_bytes = damaged[0].stat().st_size
    for path in damaged:
        flip_byte(path)
    monkeypatch.setattr(repair, "free_bytes", lambda _: n_files * n_bytes / 0.75 + 1)
    steps: list[int] = []
    target = Index.open(encoder.path, encoder=encoder, damaged=True)
    problems = target.verify()
    encoder.sizes = []
    assert target.repair(problems, on_progress=lambda done, _: steps.append(done)) == 4
    assert max(map(len, encoder.sizes)) == max(int(n_files), 1)
    header = min(map(min, encoder.sizes))
    assert sum(set(sizes) == {header} for sizes in encoder.sizes) == n_passes
    assert steps == sorted(steps)
    assert steps[-1] == len(target)
    assert contents(encoder.path) == before


def test_what_is_recorded_is_what_was_written_not_what_the_disk_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, encoder = _watched(tmp_path)
    damaged = layer_paths(encoder.path)[0]
    flip_byte(damaged)

    def rename(path: Path, target: Path) -> Path:
        if path.parent.suffix == ".new":
            flip_byte(path)
        return replace_file(path, target)

    replace_file = Path.replace
    monkeypatch.setattr(Path, "replace", rename)
    assert _repair(encoder) == 1
    assert [problem.path for problem in Index.open(encoder.path, encoder=encoder).verify()] == [
        damaged
    ]


def test_a_file_in_place_of_a_segments_folder_is_replaced(filled: Index) -> None:
    path = filled._open.store.path
    before = contents(path)
    folder = layer_paths(path)[0].parent
    shutil.rmtree(folder)
    folder.touch()
    target = Index.open(path, encoder=WordEncoder(), damaged=True)
    problems = target.verify()
    assert [problem.reason for problem in problems] == ["missing"] * 4
    assert target.repair(problems) == 4
    assert contents(path) == before


def test_a_resumed_run_has_the_windows_of_one_that_was_not_interrupted(tmp_path: Path) -> None:
    rows = [{"text": "word " * (1 + n % 7) + str(n)} for n in range(40)]
    found = []
    for name, stops in (("once", ()), ("resumed", (17,))):
        encoder = _Dependent(window=5)
        encoder.settings = replace(encoder.settings, max_length=20, window_bytes=50)
        index = Index.create(tmp_path / name, model=encoder, precision="float32")

        def read(stop: int) -> Iterator[dict[str, str]]:
            yield from rows[:stop]
            raise KeyboardInterrupt

        for stop in stops:
            with pytest.raises(KeyboardInterrupt):
                index.add(read(stop), auto_compact=False)
            assert 0 < len(index) <= stop
        index.add(rows, auto_compact=False)
        found.append([path.read_bytes() for path in layer_paths(index._open.store.path)])
    assert sorted(found[0]) == sorted(found[1])
    assert len(found[0]) > 4 * 8


def test_folder_in_place_of_a_layer_file_is_replaced(filled: Index) -> None:
    path = filled._open.store.path
    before = contents(path)
    (file := layer_paths(path)[0]).unlink()
    (file / "inner").mkdir(parents=True)
    file.with_suffix(".new").mkdir()
    target = Index.open(path, encoder=WordEncoder(), damaged=True)
    assert target.repair(target.verify()) == 1
    assert contents(path) == before
    assert not file.with_suffix(".new").exists()


def test_only_the_texts_of_damaged_segments_are_encoded(filled: Index) -> None:
    flip_byte(layer_paths(filled._open.store.path)[0])
    encoder = WordEncoder()
    target = Index.open(filled._open.store.path, encoder=encoder)
    problems = target.verify()
    assert encoder.encoded == []
    target.repair(problems)
    assert problems[0].segment is not None
    assert len(encoder.encoded) == problems[0].segment.n_documents


def test_repair_of_nothing_changes_nothing_and_encodes_nothing(filled: Index) -> None:
    before = contents(filled._open.store.path)
    assert filled.repair(filled.verify()) == 0
    assert contents(filled._open.store.path) == before


def test_repair_after_compaction_gives_vectors_within_tolerance(filled: Index) -> None:
    filled.compact()
    before = read_live(filled._open.store.path)
    for path in layer_paths(filled._open.store.path):
        flip_byte(path)
    assert filled.repair(filled.verify()) == 4
    after = read_live(filled._open.store.path)
    assert after.keys() == before.keys()
    for identifier, version in before.items():
        for layer, expected in version.vectors.items():
            found = np.frombuffer(after[identifier].vectors[layer], np.float16)
            cosine = found.astype(np.float64) @ np.frombuffer(expected, np.float16)
            assert cosine > 0.999
    assert filled.verify() == []


class _OtherEngine(WordEncoder):
    """Gives vectors within the tolerance, but not the same bytes."""

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        encoded = super().encode(texts, layers)
        return replace(
            encoded,
            vectors=np.nextafter(np.float16(encoded.vectors), np.float16(1)).astype(np.float32),
        )


def test_other_bytes_of_another_engine_are_recorded(filled: Index) -> None:
    before = contents(filled._open.store.path)
    path = layer_paths(filled._open.store.path)[0]
    path.unlink()
    target = Index.open(filled._open.store.path, encoder=_OtherEngine(), damaged=True)
    assert target.repair(target.verify()) == 1
    after = contents(filled._open.store.path)
    assert {name for name in before if before[name] != after[name]} == {
        str(path.relative_to(filled._open.store.path))
    }
    assert reopen(filled).verify() == []
    assert len(first(reopen(filled).search("text number9 of 4", layer=int(path.stem[-2:])))) == 10


def test_long_lived_reader_sees_the_repaired_vectors(filled: Index) -> None:
    path = layer_paths(filled._open.store.path)[0]
    layer = int(path.stem[-2:])
    (identifier,) = (
        version.id
        for version in read_live(filled._open.store.path).values()
        if path.read_bytes().endswith(version.vectors[layer])
    )
    (document,) = filled.get(identifier)
    reader = reopen(filled)
    sound = first(reader.search(document.text, k=1, layer=layer))
    # The last document's vector turns round, under the reader's map.
    data = bytearray(path.read_bytes())
    for high in range(len(data) - 31, len(data), 2):
        data[high] ^= 0x80
    with path.open("r+b") as file:
        file.write(data)
    assert (
        first(reader.search(document.text, k=1, layer=layer)) != sound
    )  # checked when it was mapped
    with pytest.raises(DamagedIndexError, match="wrong checksum"):
        first(reopen(filled).search(document.text, k=1, layer=layer))
    mender = reopen(filled)
    assert mender.repair(mender.verify()) == 1
    assert first(reopen(filled).search(document.text, k=1, layer=layer)) == sound
    assert first(reader.search(document.text, k=1, layer=layer)) == sound


def test_repair_by_another_encoder_is_refused_and_changes_nothing(filled: Index) -> None:
    flip_byte(layer_paths(filled._open.store.path)[0])
    before = contents(filled._open.store.path)
    other = Index.open(filled._open.store.path, encoder=WordEncoder(fingerprint="other"))
    with pytest.raises(IndexMismatchError, match=r"words.*other"):
        other.repair(other.verify())
    assert contents(filled._open.store.path) == before


@pytest.mark.parametrize(
    "change", ["DELETE FROM document_text", "UPDATE document_text SET text = 'other words'"]
)
def test_segment_with_a_lost_or_changed_text_is_not_rebuilt(filled: Index, change: str) -> None:
    path = layer_paths(filled._open.store.path)[0]
    flip_byte(path)
    before = contents(filled._open.store.path)
    row = f"(SELECT first_row + 1 FROM segment WHERE name = '{path.parent.name}')"
    query(filled._open.store.path, f"{change} WHERE row = {row}")
    target = reopen(filled)
    with contextlib.suppress(DamagedIndexError):
        target.repair(target.verify())
    assert contents(filled._open.store.path) == before


def test_problems_that_a_compaction_overtook_are_no_crash(index: Index) -> None:
    index.add(rows(3))
    flip_byte(layer_paths(index._open.store.path)[0])
    problems = index.verify()
    index.delete(*ids_of(index))
    index.compact()
    with contextlib.suppress(LayerdexError):
        assert index.repair(problems) == 0
    assert index.verify() == []
    assert layer_paths(index._open.store.path) == []
