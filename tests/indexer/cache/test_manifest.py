from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from layerdex.indexer.cache.manifest import Manifest
from layerdex.indexer.cache.sealed_json import load_sealed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "compiled").mkdir(parents=True)
    (folder / "graph").write_bytes(b"graph")
    (folder / "compiled" / "blob").write_bytes(b"blob")
    Manifest.create(folder, name="folder")
    return folder


def test_files_are_as_they_were_listed(folder: Path) -> None:
    manifest = Manifest(folder)

    assert manifest.check("graph").read_bytes() == b"graph"
    assert manifest.holds("compiled")
    # CRC-32 of IEEE 802.3, as gzip has it.
    listed = load_sealed((folder / "manifest.json").read_bytes())["crc32"]
    assert listed == {"compiled/blob": 0xB07FA5CC, "graph": 0x094505DC}


DAMAGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda file: file.write_bytes(b"xxxxx"),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "removed": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_as_listed_is_refused(damage: str, folder: Path) -> None:
    DAMAGES[damage](folder / "graph")
    DAMAGES[damage](folder / "compiled" / "blob")

    with pytest.raises((ValueError, FileNotFoundError)):
        Manifest(folder).check("graph")
    assert not Manifest(folder).holds("compiled")


def test_what_is_not_listed_is_refused(folder: Path) -> None:
    (folder / "other").write_bytes(b"other")
    (folder / "compiled" / "other").write_bytes(b"other")

    with pytest.raises(ValueError, match="wrong checksum"):
        Manifest(folder).check("other")
    assert not Manifest(folder).holds("compiled")
    assert not Manifest(folder).holds("nothing")


def test_a_changed_manifest_is_refused(folder: Path) -> None:
    content = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(content.replace("graph", "grabh"))

    with pytest.raises(ValueError, match="does not have its digest"):
        Manifest(folder)


def test_added_and_written_files_replace_older_ones(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest(folder)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "one").write_bytes(b"1")

    manifest.add(tmp_path / "new", "compiled")
    manifest.write("graph", b"another")

    for one in (manifest, Manifest(folder)):
        assert one.check("graph").read_bytes() == b"another"
        assert one.holds("compiled")
    assert [file.name for file in (folder / "compiled").iterdir()] == ["one"]

    manifest.remove("compiled")
    assert not (folder / "compiled").exists()
    assert Manifest(folder).check("graph").is_file()


def test_writers_at_once_lose_nothing(folder: Path) -> None:
    manifests = [Manifest(folder) for _ in range(8)]
    threads = [
        threading.Thread(target=manifest.write, args=(f"file-{i}", bytes([i])))
        for i, manifest in enumerate(manifests)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    manifest = Manifest(folder)
    assert [manifest.check(f"file-{i}").read_bytes() for i in range(8)] == [
        bytes([i]) for i in range(8)
    ]


def test_the_manifest_of_another_folder_is_refused(folder: Path) -> None:
    other = folder.rename(folder.with_name("other"))

    with pytest.raises(ValueError, match="other has the manifest of 'folder'"):
        Manifest(other)


@pytest.mark.parametrize("name", ["graph", "manifest.json"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)

    with pytest.raises(OSError, match="Invalid argument"):
        Manifest(folder).check("graph")
