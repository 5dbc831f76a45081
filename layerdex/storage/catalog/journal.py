"""SQLite's rollback journal, which a killed migration may leave beside a catalog.

Whoever opens the catalog next undoes what the journal describes, whichever catalog that was. The
migration journals one change, that of the journal mode in the first page, so a journal that would
change anything else is foreign.

Format: https://www.sqlite.org/fileformat2.html#the_rollback_journal
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from layerdex.errors import DamagedIndexError
from layerdex.storage.descriptors import opened
from layerdex.storage.files import open_regular

_MAGIC = bytes.fromhex("d9d505f920a163d7")
# Number of records, a random number, the catalog's size in pages, and the sizes of a sector, which
# the header fills, and of a page.
_HEADER = struct.Struct(">8s5I")
# Of the first page: journal mode, change counter, and the two fields that repeat that counter.
_CHANGED = (slice(18, 20), slice(24, 28), slice(92, 100))


def check_journal(catalog: Path) -> None:
    """Raise `DamagedIndexError` if the journal beside a catalog was not written for it."""
    journal = catalog.with_name(catalog.name + "-journal")
    while (before := _read(journal)) is not None and _is_foreign(before, catalog):
        # A migration may have ended meanwhile; no journal comes twice.
        if _read(journal) == before:
            raise DamagedIndexError(
                f"{journal} would undo changes of another catalog than {catalog}: run 'layerdex "
                f"restore' with a backup, or remove {journal.name} if {catalog.name} is a whole "
                "copy"
            )


def _read(journal: Path) -> bytes | None:
    """Return a journal, or of a long one as much as shows that it is foreign."""
    try:
        with open_regular(journal) as file:
            return file.read(1 << 18)
    except FileNotFoundError:
        return None


def _is_foreign(journal: bytes, catalog: Path) -> bool:
    if len(journal) < _HEADER.size or not journal.startswith(_MAGIC):
        return False  # SQLite undoes nothing
    _, n_records, _, n_pages, sector_size, page_size = _HEADER.unpack_from(journal)
    with opened(catalog) as descriptor:
        size = os.fstat(descriptor).st_size
        page = os.pread(descriptor, page_size, 0) if page_size <= size else b""
    if size == 0:
        return False
    if n_pages * page_size != size:
        return True
    if n_records == 0:  # not flushed yet, so nothing in the catalog has changed
        return False
    record = journal[sector_size : sector_size + 4 + page_size]
    number, undone = record[:4], record[4:]
    return n_records > 1 or number != b"\0\0\0\1" or _unchanged(undone) != _unchanged(page)


def _unchanged(page: bytes) -> bytes:
    left = bytearray(page)
    for changed in _CHANGED:
        left[changed] = bytes(changed.stop - changed.start)
    return bytes(left)
