from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from layerdex.indexer.cache.location import cache_folder, make_cache_folder, write_whole


@pytest.fixture
def folder() -> Path:
    folder = cache_folder("openvino")
    make_cache_folder(folder)
    return folder


def test_a_new_cache_belongs_to_its_user_whatever_the_umask() -> None:
    before = os.umask(0)
    try:
        make_cache_folder(cache_folder("openvino"))
    finally:
        os.umask(before)

    assert cache_folder("openvino").is_dir()
    assert cache_folder().stat().st_mode & 0o022 == 0


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
@pytest.mark.parametrize("which", ["", "openvino"])
def test_a_folder_that_others_may_write_to_is_refused(which: str, mode: int, folder: Path) -> None:
    (folder.parent / which).chmod(mode)

    with pytest.raises(PermissionError, match="others may write to") as caught:
        cache_folder("openvino")
    assert str(folder.parent / which) in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("which", ["", "openvino"])
def test_a_folder_of_another_user_is_refused(which: str, folder: Path) -> None:
    os.chown(folder.parent / which, 4_711, 4_711)

    with pytest.raises(PermissionError, match="others may write to"):
        cache_folder("openvino")


def test_a_cache_that_root_has_prepared_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("the cache of this test is not root's")
    monkeypatch.setattr(os, "geteuid", lambda: 4_711)

    assert cache_folder("openvino") == folder


def test_a_link_to_a_folder_of_everybody_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder)
    (tmp_path / "shared").mkdir(mode=0o777)
    (tmp_path / "shared").chmod(0o777)
    folder.symlink_to(tmp_path / "shared")

    with pytest.raises(PermissionError):
        cache_folder("openvino")


def test_a_file_is_readable_by_all_and_replaces_the_older_one(folder: Path) -> None:
    write_whole(folder / "file", b"older")
    write_whole(folder / "file", b"new")

    assert (folder / "file").read_bytes() == b"new"
    assert (folder / "file").stat().st_mode & 0o777 == 0o644
    assert [one.name for one in folder.iterdir()] == ["file"]


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(folder: Path) -> None:
    (folder / "file" / "within").mkdir(parents=True)

    with pytest.raises(OSError, match="directory"):
        write_whole(folder / "file", b"new")

    assert [one.name for one in folder.iterdir()] == ["file"]
