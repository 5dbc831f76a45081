"""Where the cache is, whether it may be trusted, and writing to it."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0


def cache_folder(name: str = "") -> Path:
    """Return Layerdex's cache folder, or one within it; it may not exist.

    Raises OSError if there is none, as for a container's user without a home, and PermissionError
    if somebody else may write to it: who can change the cache can change answers.
    """
    folder = _own_folder()
    for each in (folder, folder / name):
        check_own(each)
    return folder / name


def make_cache_folder(folder: Path) -> None:
    """Create a folder of the cache that only its owner may change. Raises OSError."""
    if not folder.is_dir():
        make_cache_folder(folder.parent)
        folder.mkdir(mode=0o755, exist_ok=True)


def close_to_others(folder: Path) -> None:
    """Let all read what a library has written here, and only its owner change it.

    Raises OSError.
    """
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file of the cache, which appears whole or not at all. Raises OSError.

    All may read it, as of a cache that was filled when a container's image was built.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise


def _own_folder() -> Path:
    for name in (os.environ.get("XDG_CACHE_HOME", ""), "~/.cache"):
        folder = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's raises without a home
        if folder.is_absolute():  # others are invalid (XDG Base Directory Specification)
            return folder / "layerdex"
    raise FileNotFoundError(errno.ENOENT, "there is no home directory: set XDG_CACHE_HOME")


def check_own(path: Path) -> None:
    """Raise PermissionError for a file or folder, if it is there, that others may write to."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    # Root may write anywhere, so a cache that root has prepared is as safe as the program.
    if status.st_uid not in (os.geteuid(), _ROOT) or status.st_mode & _OTHERS_MAY_WRITE:
        raise PermissionError(
            errno.EPERM, f"others may write to {path} (make it yours: chmod go-w, chown)"
        )
