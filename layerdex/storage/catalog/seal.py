"""The seal: a checksum of the whole catalog file while no writer is at work.

Digests guard the rows that a question reads (see `storage.digests`). What a damaged index or page
of the catalog hides from a question, they cannot show; the seal does. A writer breaks it before
its first change and renews it when it is done, so that after a killed writer there is none until
the next one ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import zlib
from pathlib import Path

from layerdex.errors import DamagedIndexError
from layerdex.storage.files import checksum_of, open_own, sync_folder

logger = logging.getLogger(__name__)

WRONG_SEAL = "wrong checksum"

_SUFFIX = ".crc32"
# One for each catalog that this process has looked at, for as long as that has a name.
_opened: dict[tuple[int, int], int] = {}
_at_one_time = threading.RLock()
_LENGTH = 18
_CONTENT = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{8})\n")


def seal_path(catalog: Path) -> Path:
    """Return where the seal of a catalog lies."""
    return catalog.with_name(catalog.name + _SUFFIX)


def check_seal(catalog: Path) -> bool:
    """Say whether a catalog is sealed; raise `DamagedIndexError` if it is not what that says."""
    while (before := _read(catalog)) is not None and not has_log(catalog):
        found = _checksum(catalog)
        if found == before:
            return True
        # A writer may have begun meanwhile, or even be done; it takes the seal away first.
        if _read(catalog) == before and not has_log(catalog):
            error = DamagedIndexError(
                f"the catalog {catalog} is damaged ({WRONG_SEAL}): 'layerdex repair' says "
                "whether it must be restored from a backup"
            )
            error.reason = WRONG_SEAL
            raise error
    return False


def break_seal(catalog: Path) -> None:
    """Take the seal away, before the first change."""
    _unfinished(catalog).unlink(missing_ok=True)
    seal_path(catalog).unlink(missing_ok=True)
    # Even where it was gone: a writer that was killed may not have flushed that.
    sync_folder(catalog.parent)


def renew_seal(catalog: Path) -> None:
    """Seal a sound catalog that nobody is changing, unless its log could not be emptied.

    A catalog without a seal is in a valid state, so that a full disk is only worth a warning.
    """
    if has_log(catalog):
        return
    temporary = _unfinished(catalog)
    try:
        digits = b"%08x" % _checksum(catalog)
        # Not flushed: a seal that a power loss tears is none.
        temporary.write_bytes(digits + b" %08x\n" % zlib.crc32(digits))
        temporary.replace(seal_path(catalog))
    except OSError as error:
        logger.warning("%s stays without its checksum until the next writer: %s", catalog, error)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def has_log(catalog: Path) -> bool:
    """Say whether SQLite has commits beside the catalog that are not in it yet."""
    try:
        return catalog.with_name(catalog.name + "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _checksum(catalog: Path) -> int:
    """Return the CRC-32 of the catalog, and leave it open.

    Closing any descriptor of a file gives up all locks that this process has on it, those of
    SQLite's readers included (https://www.sqlite.org/howtocorrupt.html, 2.2): a writer elsewhere
    would take itself for alone, and change the catalog under them.
    """
    with _at_one_time:
        while (key := _identity(catalog.stat())) not in _opened:
            for old, descriptor in list(_opened.items()):
                if os.fstat(descriptor).st_nlink == 0:  # a catalog that is gone
                    os.close(_opened.pop(old))
            descriptor = os.open(catalog, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            _opened.setdefault(_identity(os.fstat(descriptor)), descriptor)
        return checksum_of(_opened[key])


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _unfinished(catalog: Path) -> Path:
    return catalog.with_name(catalog.name + _SUFFIX + ".new")


def _read(catalog: Path) -> int | None:
    try:
        with open_own(seal_path(catalog)) as file:
            content = file.read(_LENGTH + 1)  # whatever its size is
    except FileNotFoundError:
        return None
    match = _CONTENT.fullmatch(content)
    if match is None or zlib.crc32(match[1]) != int(match[2], 16):
        return None
    return int(match[1], 16)
