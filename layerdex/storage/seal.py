"""The seal: a checksum of the whole catalog file while no writer is at work.

Digests guard the rows that a question reads (see `storage.digests`). What a damaged index or page
of the catalog hides from a question, they cannot show; the seal does. A writer breaks it before
its first change and renews it when it is done, so that after a killed writer there is none until
the next one ends.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from pathlib import Path

from layerdex.errors import DamagedIndexError
from layerdex.storage.files import checksum, open_own, sync_folder

WRONG_SEAL = "wrong checksum"

_SUFFIX = ".crc32"
_LENGTH = 18
_CONTENT = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{8})\n")


def seal_path(catalog: Path) -> Path:
    """Return where the seal of a catalog lies."""
    return catalog.with_name(catalog.name + _SUFFIX)


def check_seal(catalog: Path) -> None:
    """Raise `DamagedIndexError` if a sealed catalog is not what its seal says."""
    while (before := _read(catalog)) is not None and not has_log(catalog):
        with catalog.open("rb") as file:
            found = checksum(file)
        if found == before:
            return
        # A writer may have begun meanwhile, or even be done; it takes the seal away first.
        if _read(catalog) == before and not has_log(catalog):
            error = DamagedIndexError(
                f"the catalog {catalog} is damaged ({WRONG_SEAL}): 'layerdex repair' says "
                "whether it must be restored from a backup"
            )
            error.reason = WRONG_SEAL
            raise error


def break_seal(catalog: Path) -> None:
    """Take the seal away, before the first change."""
    _unfinished(catalog).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        seal_path(catalog).unlink()
        sync_folder(catalog.parent)


def renew_seal(catalog: Path) -> None:
    """Seal a catalog that nobody is changing, unless its log could not be emptied."""
    if has_log(catalog):
        return
    with catalog.open("rb") as file:
        digits = b"%08x" % checksum(file)
    temporary = _unfinished(catalog)
    # Not flushed: a seal that a power loss tears is none.
    temporary.write_bytes(digits + b" %08x\n" % zlib.crc32(digits))
    temporary.replace(seal_path(catalog))


def has_log(catalog: Path) -> bool:
    """Say whether SQLite has commits beside the catalog that are not in it yet."""
    try:
        return catalog.with_name(catalog.name + "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


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
