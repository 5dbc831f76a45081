"""Digests of files, remembered from run to run as long as a file is certainly the same.

A file's path, size and times say little: a copy can have all of them. Its inode's time of change
cannot be set, so that a digest is believed where it, inode and device, too, are as they were. It is
not believed

- where the file changed so shortly before it was read that another change could have the same time
  (as in git, https://git-scm.com/docs/racy-git);
- after the system was started again, as devices get their numbers anew;
- on a file system that makes inodes or times up, or that an image brings them to (see
  `keeps_inodes`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerdex.errors import ModelError
from layerdex.indexer.cache.location import cache_folder, make_cache_folder, write_whole
from layerdex.indexer.cache.sealed_json import dump_sealed, load_sealed
from layerdex.indexer.models.file_systems import boot_id, keeps_inodes

# Of smaller files the digest is computed each time: a millisecond with SHA-256 in hardware.
_LEAST_BYTES = 1 << 20
# A page that is changed through a mapping gets a new time only once its last change is on the
# disk, which takes Linux half a minute; some file systems record times in steps of seconds.
_RACY_NS = 60_000_000_000
_FILES = "files"

Stamp = tuple[int, ...]
"""A file's size, times of modification and change in ns, inode and device."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """A file's SHA-256 in hex, and its state when it was read.

    ``is_remembered`` says that the content was read by an earlier run, and not by this one.
    """

    path: Path
    sha256: str
    stamp: Stamp
    is_remembered: bool

    def check_unchanged(self) -> None:
        """Raise `ModelError` if the file is not the one whose content has this digest.

        For a caller who has read the file: a remembered digest is compared with the content.
        """
        if _stamp(self.path) != self.stamp:
            raise ModelError(f"{self.path} was changed while it was read: try again")
        if self.is_remembered and _read_digest(self.path) != self.sha256:
            _forget(self.path)
            raise ModelError(
                f"{self.path} has other content than before, though nothing has changed it since "
                "then: its disk may be damaged; if the content is right, run this again"
            )


def digest_file(path: Path) -> FileDigest:
    """Return the digest of a file. Raises `ModelError` if it cannot be read."""
    stamp = _stamp(path)
    if stamp[0] < _LEAST_BYTES or not keeps_inodes(path):
        return _digest(path, stamp)
    remembered = _read_cache()
    key = str(path.resolve())
    entry = [boot_id(), _file_system(path), *stamp]
    if (known := remembered.get(key)) and known[:-1] == entry:
        return FileDigest(path, str(known[-1]), stamp, is_remembered=True)
    age_ns = time.time_ns() - max(stamp[1:3])
    digest = _digest(path, stamp)
    if age_ns > _RACY_NS:
        # Those of an earlier start of the system can never be believed again.
        still_good = {name: one for name, one in remembered.items() if one[0] == entry[0]}
        _write_cache({**still_good, key: [*entry, digest.sha256]})
    return digest


def _digest(path: Path, stamp: Stamp) -> FileDigest:
    sha256 = _read_digest(path)
    if _stamp(path) != stamp:
        raise ModelError(f"{path} was changed while it was read: try again")
    return FileDigest(path, sha256, stamp, is_remembered=False)


def _read_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_size, *times, status.st_ino, status.st_dev


def _file_system(path: Path) -> int:
    try:
        return os.statvfs(path).f_fsid
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def _cache_path() -> Path:
    return cache_folder() / "digests.json"


def _read_cache() -> dict[str, list[Any]]:
    try:
        files = load_sealed(_cache_path().read_bytes())[_FILES]
    except (OSError, ValueError, KeyError, RecursionError):
        return {}
    return dict(files)


def _write_cache(remembered: dict[str, list[Any]]) -> None:
    # A cache that cannot be written is not an error.
    with contextlib.suppress(OSError):
        path = _cache_path()
        make_cache_folder(path.parent)
        write_whole(path, dump_sealed({_FILES: remembered}))


def _forget(path: Path) -> None:
    remembered = _read_cache()
    remembered.pop(str(path.resolve()), None)
    _write_cache(remembered)
