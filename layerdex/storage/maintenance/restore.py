"""Putting a checked copy of an index in the place of another."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from contextlib import ExitStack
from pathlib import Path

from layerdex.errors import OptionError
from layerdex.records import OnProgress
from layerdex.storage.catalog.engine import translate_errors
from layerdex.storage.directory import check_replaceable, is_index, locked, resolve
from layerdex.storage.files import copy_access, sync_folder
from layerdex.storage.maintenance.backup import unfinished_copy
from layerdex.storage.store import Store

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def restore(
    backup: Store,
    target: Path,
    *,
    lock_timeout_s: float = 10.0,
    on_progress: OnProgress | None = None,
) -> int:
    """Copy an index, checked as `back_up` checks it, and put the copy in the place of ``target``.

    An index at ``target`` is kept from being written to meanwhile, and removed when the copy is in
    its place: whoever is killed before leaves the old one, whoever is killed after the new one.
    Returns the number of documents. Raises `IndexExistsError` for a directory with anything but an
    index, `OptionError` if one directory is inside the other, or ``target`` inside another index or
    a mount point, `LockedIndexError`, `DamagedIndexError` or `StorageError`.
    """
    target = resolve(target)
    with translate_errors(target):
        _check_apart(backup.path, target)
        _check_exchangeable(target)
        check_replaceable(target)
        like = target if is_index(target) else backup.path
        with ExitStack() as stack:
            place = None
            if target.exists():
                place = stack.enter_context(locked(target, timeout_s=lock_timeout_s))
            copy, n = stack.enter_context(unfinished_copy(backup, target, like, on_progress))
            check_replaceable(target)  # copying takes time
            if place is None:
                copy.rename(target)
            else:
                place.check()
                copy_access(copy, target)
                _exchange(copy, target)
            # Before the old index is removed, which has the name of the copy now.
            sync_folder(target.parent)
    return n


def _check_apart(backup: Path, target: Path) -> None:
    if target.is_relative_to(backup) or backup.is_relative_to(target):
        raise OptionError(
            f"{backup} cannot be restored to {target}, as one is inside the other: choose another "
            "directory, or move the backup away first"
        )


def _check_exchangeable(target: Path) -> None:
    if os.path.ismount(target) or os.fsencode(target) in _mount_points():
        raise OptionError(
            f"{target} is a mount point, which cannot be exchanged: restore to a folder inside it"
        )


def _mount_points() -> set[bytes]:
    """Return what Linux says is mounted: `os.path.ismount` misses folders of the same disk."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return set()
    # The fifth field, in which blanks and backslashes are octal numbers.
    points = (line.split(b" ")[4] for line in lines)
    return {re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), p) for p in points}


def _exchange(copy: Path, target: Path) -> None:
    """Exchange the names of two directories: in one step, or in three where that is not possible.

    Between those ``target`` does not exist for a moment. Raises OSError, with the names as before.
    """
    if _exchange_at_once(copy, target):
        return
    old = copy.with_name(f"{copy.name}.old")
    target.rename(old)
    try:
        copy.rename(target)
    except BaseException:
        old.rename(target)
        raise
    old.rename(copy)


def _exchange_at_once(first: Path, second: Path) -> bool:
    """Return False if the system or the file system has no such call."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(second))
