"""The seal: a checksum of the whole catalog file while no writer is at work.

Digests protect the rows that a question reads (see `row_digests`). They cannot show what a damaged
page or SQLite index hides from a question; the seal does. A writer breaks it before its first
change and renews it at the end, so that after a killed writer there is none until the next writer
ends.

It is an XXH3 of 64 bits. Schema 0003 and before had a CRC-32, after which the seal's file is still
named, and which is checked before a migration.
"""

from __future__ import annotations

import contextlib
import logging
import re
import zlib
from pathlib import Path

from xxhash import xxh3_64

from layerdex.errors import DamagedIndexError
from layerdex.storage.catalog.log import has_log
from layerdex.storage.descriptors import opened
from layerdex.storage.files import chunks_of, open_own, sync_folder

logger = logging.getLogger(__name__)

WRONG_SEAL = "wrong checksum"

_SUFFIX = ".crc32"
_LENGTH = 26
_CRC_DIGITS = 8
_CONTENT = re.compile(rb"([0-9a-f]{8}|[0-9a-f]{16}) ([0-9a-f]{8})\n")


def seal_path(catalog: Path) -> Path:
    """Return the path of a catalog's seal."""
    return catalog.with_name(catalog.name + _SUFFIX)


def check_seal(catalog: Path) -> bool:
    """Return whether a catalog is sealed; raise `DamagedIndexError` if the seal is wrong."""
    while (before := _read(catalog)) is not None and not has_log(catalog):
        if _checksum(catalog, is_crc=len(before) == _CRC_DIGITS) == before:
            return True
        # A writer may have started meanwhile, or even be done; it breaks the seal first.
        if _read(catalog) == before and not has_log(catalog):
            error = DamagedIndexError(
                f"the catalog {catalog} is damaged ({WRONG_SEAL}): run 'layerdex repair' to find "
                "out whether it must be restored from a backup"
            )
            error.reason = WRONG_SEAL
            raise error
    return False


def is_torn(catalog: Path) -> bool:
    """Return whether there is a file for the seal, but it is not one: cut, empty or changed.

    It counts as none for everyone who only wants to know whether the catalog is sealed.
    """
    content = _content(catalog)
    return content is not None and _checksum_in(content) is None


def break_seal(catalog: Path) -> None:
    """Remove the seal, before the first change."""
    _unfinished(catalog).unlink(missing_ok=True)
    seal_path(catalog).unlink(missing_ok=True)
    # Even if there was none: a killed writer may have removed it and not flushed the folder.
    sync_folder(catalog.parent)


def renew_seal(catalog: Path) -> None:
    """Seal a sound catalog that nobody is changing, unless its log could not be emptied.

    A catalog without a seal is valid, so a full disk is only a warning.
    """
    if has_log(catalog):
        return
    temporary = _unfinished(catalog)
    try:
        digits = _checksum(catalog)
        # Not flushed: a seal torn by a power loss counts as none.
        temporary.write_bytes(digits + b" %08x\n" % zlib.crc32(digits))
        temporary.replace(seal_path(catalog))
    except OSError as error:
        logger.warning(
            "%s stays without its checksum until the next writer: %s",
            catalog.resolve(),  # the path may be one through a descriptor
            error,
        )
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _checksum(catalog: Path, *, is_crc: bool = False) -> bytes:
    """Return the checksum of a catalog in hexadecimal digits."""
    with opened(catalog) as descriptor:
        if is_crc:
            crc32 = 0
            for chunk in chunks_of(descriptor):
                crc32 = zlib.crc32(chunk, crc32)
            return b"%08x" % crc32
        hashed = xxh3_64()
        for chunk in chunks_of(descriptor):
            hashed.update(chunk)
        return hashed.hexdigest().encode()


def _unfinished(catalog: Path) -> Path:
    return catalog.with_name(catalog.name + _SUFFIX + ".new")


def _read(catalog: Path) -> bytes | None:
    content = _content(catalog)
    return None if content is None else _checksum_in(content)


def _content(catalog: Path) -> bytes | None:
    try:
        with open_own(seal_path(catalog)) as file:
            return file.read(_LENGTH + 1)  # a forged seal may be of any size
    except FileNotFoundError:
        return None


def _checksum_in(content: bytes) -> bytes | None:
    match = _CONTENT.fullmatch(content)
    if match is None or zlib.crc32(match[1]) != int(match[2], 16):
        return None
    return match[1]
