"""An index from someone who means harm: nothing runs, nothing outside is touched, one clear error.

Damage is found by checksums (`test_damage.py`). Here they all fit.
"""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from layerdex import Index
from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError, LayerdexError, StorageError
from layerdex.storage.vectors.codecs import codec_of
from layerdex.storage.vectors.layer_file import serialize_layer
from tests.encoders import WordEncoder
from tests.limited import run_limited
from tests.results import by_layer
from tests.storage.corpora import rows
from tests.storage.hostile import FORGERIES, copy, forge_file, make_sound, use, use_forged
from tests.storage.redigest import redigest
from tests.storage.stored import layer_paths, query

N, WIDTH = 8, 16
CANARY = b"nothing of an index\n" * 4096

Make = Callable[[Path], bytes]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "index"
    make_sound(path)
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    """A copy of a sound index, to be made hostile."""
    return copy(sound, tmp_path / "index")


def assert_clear(found: dict[str, str]) -> None:
    """Fail unless something was refused, each refusal in one line of our own."""
    assert found
    for operation, message in found.items():
        assert not message.startswith("!"), f"{operation} {message}"
        assert "\n" not in message


def test_forged_catalog_is_a_clear_error_in_bounded_memory(
    sound: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    more = bool(request.config.getoption("--soak"))
    names = list(FORGERIES) if more else list(FORGERIES)[::3]
    outcome = run_limited(
        *(use_forged, sound, tmp_path / "index", names, more), memory_bytes=1 << 30, timeout_s=240
    )
    assert outcome.exit_code == 0
    assert outcome.grown_bytes < 300 << 20
    assert list(outcome.result) == names
    for name, found in outcome.result.items():
        assert found, name
        assert_clear(found)


def test_sound_index_is_refused_nothing(path: Path) -> None:
    assert use(path) == {}


def _vectors(n: int = N) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((n, WIDTH)).astype(np.float32)


def _filled(index: Any) -> bytes:
    index.train(_vectors(200))
    index.add(_vectors())
    return bytes(faiss.serialize_index(index))


def _on_disk_lists(folder: Path) -> bytes:
    """An inverted file whose lists lie in another file, named by a path."""
    index: Any = faiss.index_factory(WIDTH, "PCA8,IVF2,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(_vectors(200))
    inner = faiss.extract_index_ivf(index)
    outside = folder / "outside.lists"
    lists = faiss.OnDiskInvertedLists(inner.nlist, inner.code_size, str(outside))
    inner.replace_invlists(lists, False)
    index.add(_vectors())
    return bytes(faiss.serialize_index(index))


def _layer(n: int = N, width: int = WIDTH) -> bytes:
    codec = codec_of(StoredPrecision.FLOAT16)
    unit = _vectors(n)[:, :width]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return bytes(serialize_layer(codec.encode(unit), codec))


def _changed(at: int, value: int) -> Make:
    """A sound layer file with a number of 64 bits in its header changed."""

    def make(folder: Path) -> bytes:
        data = bytearray(_layer())
        data[at : at + 8] = value.to_bytes(8, "little")
        return bytes(data)

    return make


class _Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT)


FILES: dict[str, Make] = {
    "IVF": lambda _: _filled(faiss.index_factory(WIDTH, "IVF2,Flat", faiss.METRIC_INNER_PRODUCT)),
    "HNSW": lambda _: _filled(faiss.IndexHNSWFlat(WIDTH, 4, faiss.METRIC_INNER_PRODUCT)),
    "PQ": lambda _: _filled(faiss.IndexPQ(WIDTH, 2, 4, faiss.METRIC_INNER_PRODUCT)),
    "a transform and lists on disk": _on_disk_lists,
    "a transform": lambda _: _filled(faiss.index_factory(WIDTH, "PCA8,Flat")),
    "float32": lambda _: _filled(faiss.IndexFlatIP(WIDTH)),
    "another metric": lambda _: _filled(faiss.IndexScalarQuantizer(WIDTH, 4, faiss.METRIC_L2)),
    "fewer vectors": lambda _: _layer(N - 1),
    "another width": lambda _: _layer(width=WIDTH // 2),
    "a huge count of vectors": _changed(8, 1 << 60),
    "a huge width of the quantizer": _changed(49, 1 << 40),
    "a huge code": _changed(57, 1 << 40),
    "a huge trained vector": _changed(65, 1 << 40),
    "a huge count of codes": _changed(73, 1 << 62),
    "more behind the codes": lambda _: _layer() + bytes(8),
    "a pickle": lambda folder: pickle.dumps(_Touch(folder / "ran")),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("kind", FILES)
def test_foreign_file_under_a_fitting_catalog_never_reaches_faiss(
    path: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = forge_file(path, FILES[kind](tmp_path))
    read: list[str] = []
    map_index = faiss.read_index

    def record(name: str, *arguments: int) -> Any:
        read.append(name)
        return map_index(name, *arguments)

    monkeypatch.setattr(faiss, "read_index", record)
    index = Index.open(path, encoder=WordEncoder())
    with pytest.raises(DamagedIndexError, match="not the index that the catalog describes"):
        by_layer(index.search(["text number5"], layer="all", k=3))
    assert [str(problem) for problem in index.verify()] == [
        f"{file}: not the index that the catalog describes"
    ]
    assert read  # sound layers are
    assert str(file) not in read
    assert not (tmp_path / "ran").exists()


def test_pickle_of_the_test_would_make_its_file(tmp_path: Path) -> None:
    os.close(pickle.loads(pickle.dumps(_Touch(tmp_path / "ran"))))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("precision", StoredPrecision)
def test_header_is_what_faiss_writes(precision: StoredPrecision) -> None:
    codec = codec_of(precision)
    for n, width in ((0, 1), (1, 7), (300, 384)):
        codes = np.zeros((n, width * codec.code_bytes), dtype=np.uint8)
        data = bytes(serialize_layer(codes, codec))
        assert data == codec.header(n, width) + codes.tobytes()


def test_format_that_could_not_be_read_is_never_written(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    serialize = faiss.serialize_index

    def another(faiss_index: Any) -> Any:
        data = serialize(faiss_index)
        data[3] ^= 1
        return data

    monkeypatch.setattr(faiss, "serialize_index", another)
    with pytest.raises(StorageError, match="another format"):
        index.add(rows(2))
    assert len(index) == 0


def test_faiss_reads_no_vector_larger_than_the_memory(index: Index) -> None:
    index.add(rows(2))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert faiss.get_deserialization_vector_byte_limit() <= memory


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file beside the index that nobody may write or take for a part of it."""
    file = tmp_path / "outside"
    file.write_bytes(CANARY)
    return file


OWN_FILES = [
    "catalog.sqlite3",
    "catalog.sqlite3-wal",
    "catalog.sqlite3-shm",
    "catalog.sqlite3-journal",
    "catalog.sqlite3.crc32",
    "catalog.sqlite3.crc32.new",
    "catalog.sqlite3.new",
    "writer.lock",
]


@pytest.mark.parametrize("name", OWN_FILES)
def test_link_in_place_of_a_file_is_neither_read_nor_written(
    path: Path, outside: Path, name: str
) -> None:
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(outside)
    found = use(path)
    assert_clear(found)
    assert all(f"{name} is a symbolic link" in message for message in found.values())
    assert outside.read_bytes() == CANARY


def test_link_to_a_sound_catalog_elsewhere_is_not_followed(sound: Path, path: Path) -> None:
    before = (sound / "catalog.sqlite3").read_bytes()
    (path / "catalog.sqlite3").unlink()
    (path / "catalog.sqlite3").symlink_to(sound / "catalog.sqlite3")
    assert_clear(use(path))
    assert (sound / "catalog.sqlite3").read_bytes() == before


def test_creating_an_index_follows_no_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "new").mkdir()
    for name in ("writer.lock", "catalog.sqlite3.new"):
        (tmp_path / "new" / name).symlink_to(outside)
    with pytest.raises(LayerdexError, match="is a symbolic link"):
        Index.create(tmp_path / "new", model=WordEncoder())
    assert outside.read_bytes() == CANARY


@pytest.mark.parametrize("name", ["catalog.sqlite3.crc32", "catalog.sqlite3-wal", "writer.lock"])
def test_pipe_in_place_of_a_file_is_not_waited_for(path: Path, name: str) -> None:
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    assert_clear(use(path))


def test_seal_of_any_size_is_read_in_part_only(path: Path) -> None:
    os.truncate(path / "catalog.sqlite3.crc32", 1 << 40)
    assert use(path) == {}  # it is none


def _linked_file(path: Path, target: Path) -> None:
    file = layer_paths(path)[0]
    file.rename(target)
    file.symlink_to(target)


def _linked_segment(path: Path, target: Path) -> None:
    folder = layer_paths(path)[0].parent
    folder.rename(target)
    folder.symlink_to(target)


def _linked_segments(path: Path, target: Path) -> None:
    (path / "segments").rename(target)
    (path / "segments").symlink_to(target)


@pytest.mark.parametrize("link", [_linked_file, _linked_segment, _linked_segments])
def test_layer_file_is_not_reached_through_a_link(
    path: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "elsewhere"
    link(path, target)
    folder = next(tmp_path.rglob("layer-01.faiss")).parent
    (folder / "mine.new").write_bytes(CANARY)  # as a killed repair would leave one
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if _is_outside(file, path)}
    found = use(path)
    assert_clear(found)
    assert any("a link" in message or "is not a folder" in message for message in found.values())
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if _is_outside(file, path)}
    assert after == before


@pytest.mark.parametrize("link", [_linked_file, _linked_segment])
def test_backup_copies_nothing_through_a_link(
    path: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    index = Index.open(path, encoder=WordEncoder())
    link(path, tmp_path / "elsewhere")
    with pytest.raises(DamagedIndexError):
        index.backup(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def _is_outside(file: Path, path: Path) -> bool:
    return file.is_file() and not file.is_relative_to(path)


def test_linked_segment_is_mended_beside_its_target(path: Path, tmp_path: Path) -> None:
    _linked_segment(path, tmp_path / "elsewhere")
    before = {file: file.read_bytes() for file in (tmp_path / "elsewhere").iterdir()}
    index = Index.open(path, encoder=WordEncoder(), damaged=True)
    problems = index.verify()
    assert {problem.reason for problem in problems} == {"a link"}
    index.repair(problems)
    assert Index.open(path, encoder=WordEncoder()).verify() == []
    assert not layer_paths(path)[0].parent.is_symlink()
    assert {file: file.read_bytes() for file in (tmp_path / "elsewhere").iterdir()} == before


@pytest.mark.parametrize("size_bytes", [0, None])
def test_layer_file_that_is_a_pipe_is_not_waited_for(path: Path, size_bytes: int | None) -> None:
    file = layer_paths(path)[0]
    file.unlink()
    os.mkfifo(file)
    if size_bytes is not None:
        query(path, f"UPDATE segment_file SET size_bytes = {size_bytes} WHERE layer = 0")
        redigest(path)
    assert_clear(use(path))


def test_devices_are_no_layer_files(path: Path) -> None:
    file = layer_paths(path)[0]
    file.unlink()
    try:
        os.mknod(file, 0o600 | 0o020000, os.makedev(1, 5))  # as /dev/zero
    except OSError as error:
        pytest.skip(os.strerror(error.errno or errno.EPERM))
    index = Index.open(path, encoder=WordEncoder(), damaged=True)
    assert [problem.reason for problem in index.verify()] == ["not a file"]
