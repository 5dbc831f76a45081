"""A remembered digest is that of the file, whatever has been done to it since."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerdex.errors import ModelError
from layerdex.indexer.cache.location import cache_folder
from layerdex.indexer.cache.sealed_json import dump_sealed
from layerdex.indexer.models import file_digests
from layerdex.indexer.models.file_digests import digest_file
from layerdex.indexer.models.file_systems import _find_mount, keeps_inodes
from layerdex.indexer.models.model_folder import find_model


def cache_file() -> Path:
    return Path(os.environ["XDG_CACHE_HOME"]) / "layerdex" / "digests.json"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_digest(path: Path) -> str:
    return digest_file(path).sha256


@pytest.fixture
def n_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were really read to be digested."""
    real = hashlib.file_digest
    names: list[str] = []

    def digest(file: Any, algorithm: str) -> Any:
        names.append(Path(file.name).name)
        return real(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    return names


@pytest.fixture
def remembers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files of any size and age are remembered, on a file system where that is safe."""
    monkeypatch.setattr(file_digests, "_LEAST_BYTES", 0)
    monkeypatch.setattr(file_digests, "_RACY_NS", 0)
    if not keeps_inodes(tmp_path):
        pytest.skip("the file system of temporary files does not keep inodes")


@pytest.mark.usefixtures("remembers")
def test_a_digest_is_the_files_sha256_and_is_read_once(bert: Path, n_read: list[str]) -> None:
    weights = bert / "model.safetensors"

    assert [digest_file(weights).is_remembered, digest_file(weights).is_remembered] == [False, True]
    assert file_digest(weights) == sha256(weights)
    assert n_read == ["model.safetensors"]


@pytest.mark.usefixtures("remembers")
def test_a_remembered_digest_is_found_through_a_link(
    bert: Path, tmp_path: Path, n_read: list[str]
) -> None:
    # As the hub's cache has it: a snapshot folder of links to blobs.
    weights = bert / "model.safetensors"
    file_digest(weights)
    (tmp_path / "link").symlink_to(weights)

    assert file_digest(tmp_path / "link") == sha256(weights)
    assert n_read == ["model.safetensors"]


@pytest.mark.usefixtures("remembers")
def test_digests_of_several_files_are_kept_side_by_side(bert: Path, n_read: list[str]) -> None:
    files = [bert / "model.safetensors", bert / "config.json", bert / "tokenizer.json"]

    for _ in range(2):
        assert [file_digest(one) for one in files] == [sha256(one) for one in files]
    assert len(n_read) == 3


def test_small_files_are_always_read(bert: Path, n_read: list[str]) -> None:
    for _ in range(2):
        file_digest(bert / "config.json")

    assert len(n_read) == 2
    assert not cache_file().exists()


def test_what_has_just_changed_is_read_again_until_its_time_is_past(
    tmp_path: Path, n_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(1 << 20))
    now_ns = time.time_ns()

    for age_s, read in ((0.1, 1), (59, 2), (-5, 3), (61, 4), (62, 4)):
        monkeypatch.setattr(time, "time_ns", lambda age_s=age_s: now_ns + int(age_s * 1e9))
        assert file_digest(large) == sha256(large)
        assert len(n_read) == read or not keeps_inodes(large)


def _flipped(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    return bytes(content)


def _copy_with_times(path: Path, content: bytes) -> Path:
    other = path.with_name("other")
    other.write_bytes(content)
    shutil.copystat(path, other)
    return other


def overwrite_in_place(path: Path, content: bytes) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def rename_over(path: Path, content: bytes) -> None:
    _copy_with_times(path, content).replace(path)


def remove_and_create(path: Path, content: bytes) -> None:
    status = path.stat()
    path.unlink()
    path.write_bytes(content)  # often with the same inode
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_preserving(path: Path, content: bytes) -> None:
    other = _copy_with_times(path, content)
    subprocess.run(["cp", "-p", other, path], check=True)


def extract_an_archive(path: Path, content: bytes) -> None:
    other = _copy_with_times(path, content)
    archive = path.with_name("archive.tar")
    command = ["tar", "--format=posix", "-C", str(path.parent), "-cf", str(archive), other.name]
    subprocess.run([*command, f"--transform=s/.*/{path.name}/"], check=True)
    subprocess.run(["tar", "-C", path.parent, "-xf", archive], check=True)


def link_another_there(path: Path, content: bytes) -> None:
    other = _copy_with_times(path, content)
    path.unlink()
    path.hardlink_to(other)


def point_elsewhere(path: Path, content: bytes) -> None:
    other = _copy_with_times(path, content)
    path.unlink()
    path.symlink_to(other.rename(path.with_name("elsewhere")))


def swap_the_folders(path: Path, content: bytes) -> None:
    folder = path.parent
    shutil.copytree(folder, folder.with_name("second"), copy_function=shutil.copy2)
    second = folder.with_name("second") / path.name
    overwrite_in_place(second, content)
    folder.rename(folder.with_name("first"))
    second.parent.rename(folder)


def exchange_the_files(path: Path, content: bytes) -> None:
    other = _copy_with_times(path, content)
    at_cwd, exchange = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = at_cwd, os.fsencode(other), at_cwd, os.fsencode(path), exchange
    if libc.renameat2(*arguments) != 0:
        pytest.skip("this file system does not exchange names")


def mount_another_there(path: Path, content: bytes) -> None:
    other = _copy_with_times(path, content)
    command = ["mount", "--bind", str(other), str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("not allowed to mount")


WAYS = (
    overwrite_in_place,
    rename_over,
    remove_and_create,
    copy_preserving,
    extract_an_archive,
    link_another_there,
    point_elsewhere,
    swap_the_folders,
    exchange_the_files,
    mount_another_there,
)
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


@pytest.mark.usefixtures("remembers")
@pytest.mark.parametrize("swap", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_another_file_of_the_same_size_and_times_is_noticed(
    name: str, swap: Callable[[Path, bytes], None], bert: Path
) -> None:
    path = bert / name
    path.touch()
    before, times = file_digest(path), (path.stat().st_size, path.stat().st_mtime_ns)
    assert digest_file(path).is_remembered

    try:
        swap(path, _flipped(path))

        assert (path.stat().st_size, path.stat().st_mtime_ns) == times
        assert file_digest(path) == sha256(path) != before
    finally:
        if swap is mount_another_there:
            subprocess.run(["umount", path], capture_output=True, check=False)


@pytest.mark.usefixtures("remembers")
@pytest.mark.parametrize("part", ["boot", "file system", 0, 1, 2, 3, 4])
def test_nothing_is_believed_of_another_state(
    part: int | str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = bert / "model.safetensors"
    digest_file(weights)
    assert digest_file(weights).is_remembered

    match part:
        case "boot":
            monkeypatch.setattr(file_digests, "boot_id", lambda: "another")
        case "file system":
            monkeypatch.setattr(file_digests, "_file_system", lambda _path: 4_711)
        case int():
            stamp = file_digests._stamp(weights)
            other = tuple(value - (at == part) for at, value in enumerate(stamp))
            monkeypatch.setattr(file_digests, "_stamp", lambda _path: other)

    assert not digest_file(weights).is_remembered


@pytest.mark.usefixtures("remembers")
def test_a_change_of_the_content_alone_is_noticed_by_who_reads_the_model(bert: Path) -> None:
    # As by a disk that loses a page, or whatever else the file's times do not show.
    weights = bert / "model.safetensors"
    find_model(str(bert))
    remembered = find_model(str(bert)).contents
    remembered.check_unchanged()
    entry = json.loads(cache_file().read_bytes())["files"]
    entry[str(weights.resolve())][-1] = "0" * 64
    cache_file().write_bytes(dump_sealed({"files": entry}))
    contents = find_model(str(bert)).contents
    assert contents.parts["weights"] == {"model.safetensors": "0" * 64}

    with pytest.raises(ModelError, match="other content than before, though nothing has changed"):
        contents.check_unchanged()

    assert file_digest(weights) == sha256(weights)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_swapped_while_its_model_is_loaded_is_noticed(name: str, bert: Path) -> None:
    contents = find_model(str(bert)).contents
    rename_over(bert / name, _flipped(bert / name))

    with pytest.raises(ModelError, match=f"{name} was changed while it was read: try again"):
        contents.check_unchanged()


@pytest.mark.usefixtures("remembers")
def test_a_file_that_changes_while_it_is_read_is_no_digest(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, real = bert / "model.safetensors", hashlib.file_digest

    def change(file: Any, algorithm: str) -> Any:
        digest = real(file, algorithm)
        os.utime(weights)
        return digest

    monkeypatch.setattr(hashlib, "file_digest", change)

    with pytest.raises(ModelError, match="was changed while it was read"):
        digest_file(weights)
    assert not cache_file().exists()


def entries(path: Path) -> dict[str, str]:
    key = str(path.resolve())
    stamp = ["boot", 1, *path.stat()[:3]]
    right_file = {"files": {key: [*stamp, "0" * 64]}}
    return {
        "empty": "",
        "cut short": '{"a": [1, 2',
        "not text": "\udcff",
        "a list": "[1]",
        "null": "null",
        "without a digest of its own": json.dumps(right_file),
        "with another's digest": json.dumps({**right_file, "sha256": "0" * 64}),
        "without files": dump_sealed({"other": 1}).decode(),
        "another state": dump_sealed(right_file).decode(),
        "nested": "[" * 100_000,
    }


@pytest.mark.usefixtures("remembers")
@pytest.mark.parametrize("kind", list(entries(Path(__file__))))
def test_a_broken_cache_is_ignored_and_rewritten(kind: str, bert: Path, n_read: list[str]) -> None:
    weights = bert / "model.safetensors"
    cache_file().parent.mkdir(parents=True)
    cache_file().write_bytes(entries(weights)[kind].encode(errors="surrogateescape"))

    assert file_digest(weights) == sha256(weights)
    assert file_digest(weights) == sha256(weights)
    assert len(n_read) == 1


@pytest.mark.usefixtures("remembers")
def test_a_changed_digit_is_no_other_version_of_the_model(bert: Path) -> None:
    weights = bert / "model.safetensors"
    file_digest(weights)
    content = cache_file().read_text()
    cache_file().write_text(content.replace(sha256(weights)[:8], "0" * 8))
    assert cache_file().read_text() != content

    assert file_digest(weights) == sha256(weights)


@pytest.mark.usefixtures("remembers")
def test_a_cache_that_cannot_be_written_is_no_error(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_read: list[str]
) -> None:
    # A file where the folder should be: what root, too, cannot write to.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    weights = bert / "model.safetensors"

    assert [file_digest(weights), file_digest(weights)] == [sha256(weights)] * 2
    assert len(n_read) == 2


@pytest.mark.usefixtures("remembers")
def test_a_cache_that_others_may_write_to_is_neither_read_nor_written(
    bert: Path, n_read: list[str]
) -> None:
    weights = bert / "model.safetensors"
    file_digest(weights)
    before = cache_file().read_bytes()
    cache_folder().chmod(0o775)

    file_digest(bert / "tokenizer.json")
    assert not digest_file(weights).is_remembered

    assert cache_file().read_bytes() == before
    assert len(n_read) == 3


def test_a_file_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*nothing: No such file"):
        file_digest(tmp_path / "nothing")


MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
39 27 0:39 / /dev/shm rw - tmpfs tmpfs rw
40 27 0:40 / /home/me/with\040space rw - fuse.sshfs host:/ rw
41 27 7:0 / /mnt/image ro,relatime shared:3 - squashfs /dev/loop0 ro
42 27 7:1 / /mnt/disk rw,relatime - ext4 /dev/loop1 rw
43 27 8:1 / /mnt/models ro,relatime - ext4 /dev/sda1 ro
44 27 0:44 / /mnt/over rw - overlay overlay rw,lowerdir=/a:/b
45 27 8:2 / /mnt/over/xfs rw - xfs /dev/sdb rw
46 45 0:46 / /mnt/over/xfs rw - vfat /dev/sdc rw
47 27 8:9 / /mnt/under rw - ext4 /dev/sdd ro
"""


@pytest.mark.parametrize(
    ("path", "kind", "device"),
    [
        ("/home/me/model", "ext4", "254:0"),
        ("/home/me/with space/model", "fuse.sshfs", "0:40"),
        ("/home/me/with spaces", "ext4", "254:0"),
        ("/mnt/image/model", "squashfs", "7:0"),
        ("/mnt/over/model", "overlay", "0:44"),
        ("/mnt/over/xfs/model", "vfat", "0:46"),
    ],
)
def test_the_mount_of_a_path_is_the_innermost_and_last(path: str, kind: str, device: str) -> None:
    assert _find_mount(MOUNTS.strip(), Path(path))[:2] == (kind, device)


@pytest.mark.parametrize(
    ("path", "keeps"),
    [
        ("/home/me/model", True),
        ("/home/me/with space/model", False),
        ("/dev/shm/model", False),
        ("/mnt/image/model", False),
        ("/mnt/disk/model", False),
        ("/mnt/models/model", False),
        ("/mnt/over/model", False),
        ("/mnt/over/xfs/model", False),
    ],
)
def test_where_digests_are_remembered(
    path: str, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_options: MOUNTS.strip())

    assert keeps_inodes(Path(path)) is keeps


def test_nothing_is_remembered_where_the_system_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)

    assert not keeps_inodes(tmp_path)


HOMELESS = """
import os, pwd, sys
from pathlib import Path

def no_entry(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = no_entry
from layerdex.indexer.cache.location import cache_folder
from layerdex.indexer.models.file_digests import digest_file

print(digest_file(Path(sys.argv[1])).sha256)
try:
    print(cache_folder())
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({}, "there is no home directory: set XDG_CACHE_HOME"),
        # The XDG Base Directory Specification has relative folders ignored.
        ({"XDG_CACHE_HOME": "not/absolute"}, "there is no home directory: set XDG_CACHE_HOME"),
        ({"XDG_CACHE_HOME": "not/absolute", "HOME": "/proc/no"}, "/proc/no/.cache/layerdex"),
        ({"HOME": "/proc/nowhere"}, "/proc/nowhere/.cache/layerdex"),
        ({"XDG_CACHE_HOME": "/proc/nowhere"}, "/proc/nowhere/layerdex"),
    ],
)
def test_a_user_without_a_home_has_no_cache(
    variables: dict[str, str], cache: str, bert: Path, tmp_path: Path
) -> None:
    weights = bert / "model.safetensors"
    others = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    result = subprocess.run(
        [sys.executable, "-c", HOMELESS, str(weights)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            **others,
            "PYTHONPATH": str(Path.cwd()) + ":" + others.get("PYTHONPATH", ""),
            **variables,
        },
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [sha256(weights), cache]
    assert not (tmp_path / "not").exists()
