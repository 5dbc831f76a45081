"""SQLite's write-ahead log, and the salt that binds it to the catalog for which it was written.

SQLite applies whatever log it finds beside a catalog. One that a killed writer left would change a
catalog that was put there since, so that deleted documents come back. Therefore each writer writes
a random number, the salt, into the header of the catalog (as ``user_version``) before its first
change, and each commit writes the first page, which has that header, with the next salt to the log.
SQLite moves commits from the log to the catalog, and with them the salt, so that this tells from
which commit on the catalog needs its log. A log without that commit is foreign, and nobody opens
the two together.

Format of the log: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from layerdex.errors import DamagedIndexError
from layerdex.storage.descriptors import opened
from layerdex.storage.files import open_regular, sync_file

# Of the salt, in the catalog and in its first page.
_OFFSET = 60
_SALT = struct.Struct(">i")
_MAX_SALT = (1 << 31) - 1
# Magic number (with the byte order of checksums), version, page size, number, two random numbers
# that each frame repeats, and the header's checksum.
_HEADER = struct.Struct(">8I")
# Page number, the catalog's number of pages if the frame ends a commit, the random numbers, and the
# checksum of all frames up to here.
_FRAME = struct.Struct(">6I")
_PAGE_SIZES = {1 << bits for bits in range(9, 17)}
_BYTE_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}


def log_path(catalog: Path) -> Path:
    """Return the path of a catalog's log."""
    return catalog.with_name(catalog.name + "-wal")


def has_log(catalog: Path) -> bool:
    """Return whether SQLite's log has commits that are not in the catalog file yet."""
    try:
        return log_path(catalog).stat().st_size > 0
    except FileNotFoundError:
        return False


def check_log(catalog: Path) -> None:
    """Raise `DamagedIndexError` if the log beside a catalog was not written for it."""
    log = log_path(catalog)
    while has_log(catalog):
        try:
            with open_regular(log) as file:
                header = os.pread(file.fileno(), _HEADER.size, 0)
                salt = read_salt(catalog)
                # Twice, as a writer may have been between a frame and its page.
                if not all(_is_foreign(file.fileno(), header, salt) for _ in range(2)):
                    return
            with open_regular(log) as file:
                is_same = os.pread(file.fileno(), _HEADER.size, 0) == header
        except FileNotFoundError as error:
            if error.filename != str(log):
                raise
            continue
        # Otherwise a writer ended and another began meanwhile: no header comes twice.
        if is_same:
            raise DamagedIndexError(
                f"{log} holds changes to another state of {catalog}, as if one of the two was "
                "copied here without the other: run 'layerdex restore' with a backup, or "
                f"remove {log.name} if {catalog.name} is a whole copy"
            )


def draw_salt() -> int:
    """Return a salt: positive, as a catalog of an older version has 0."""
    return secrets.randbelow(_MAX_SALT) + 1


def next_salt(salt: int) -> int:
    """Return the salt of the commit after the one with ``salt``."""
    return salt % _MAX_SALT + 1


def read_salt(catalog: Path) -> int:
    """Return the salt in the catalog file."""
    with opened(catalog) as descriptor:
        return _unpack(os.pread(descriptor, _SALT.size, _OFFSET))


def write_salt(catalog: Path, salt: int) -> None:
    """Write and flush a catalog's salt.

    The log must be empty and stay so meanwhile. SQLite itself would write the salt to the log, and
    readers could keep that from reaching the catalog.
    """
    if (log := log_path(catalog)).exists():
        sync_file(log)  # a power loss must not bring back what the log had
    with opened(catalog, os.O_RDWR) as descriptor:
        os.pwrite(descriptor, _SALT.pack(salt), _OFFSET)
        os.fsync(descriptor)


def write_salt_to_log(connection: Connection, salt: int) -> None:
    """Write the first page, with the salt, in a transaction.

    The salt is given because SQLite may have that page from before `write_salt`.
    """
    connection.exec_driver_sql(f"PRAGMA user_version={salt}")


def _is_foreign(log: int, header: bytes, salt: int) -> bool:
    """Return whether SQLite would apply a log that was not written for a catalog.

    The catalog is as it was before the log's first commit or, if the log was moved to it in part,
    as after another one. A commit without the first page counts as 0: no version that writes salts
    made it.
    """
    n_commits = found = 0
    for at, page, n_pages in _frames(log, header):
        if page == 1:
            found = _unpack(os.pread(log, _SALT.size, at + _FRAME.size + _OFFSET))
        if n_pages:
            if found in (salt, next_salt(salt)):
                return False
            n_commits += 1
    return n_commits > 0 and _has_commit(log, header)


def _frames(log: int, header: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield offset, page number and number of pages (0 inside a commit) of each frame.

    Their checksums are not compared.
    """
    if len(header) < _HEADER.size:
        return
    magic, _, page_size, _, *random, first, second = _HEADER.unpack(header)
    order = _BYTE_ORDERS.get(magic)
    if order is None or page_size not in _PAGE_SIZES:
        return
    if _checksum(header[:24], order, (0, 0)) != (first, second):
        return
    for at in count(_HEADER.size, _FRAME.size + page_size):
        frame = os.pread(log, _FRAME.size, at)
        if len(frame) < _FRAME.size:
            return
        page, n_pages, *repeated, _, _ = _FRAME.unpack(frame)
        if repeated != random:
            return
        yield at, page, n_pages


def _has_commit(log: int, header: bytes) -> bool:
    """Return whether the first commit is whole; SQLite ignores all from a torn frame on."""
    magic, _, page_size, *_, first, second = _HEADER.unpack(header.ljust(_HEADER.size))
    checksum = (first, second)
    for at, _, n_pages in _frames(log, header):
        frame = os.pread(log, _FRAME.size + page_size, at)
        if len(frame) < _FRAME.size + page_size:
            return False
        content = frame[:8] + frame[_FRAME.size :]
        checksum = _checksum(content, _BYTE_ORDERS[magic], checksum)
        if checksum != _FRAME.unpack_from(frame)[4:]:
            return False
        if n_pages:
            return True
    return False


def _checksum(data: bytes, order: str, start: tuple[int, int]) -> tuple[int, int]:
    """Continue SQLite's checksum, two numbers of 32 bits, with one pair of words or more.

    Each number is the sum of a word and of the two numbers before it. So the last two are sums of
    all words, and of the two at the start, each times a Fibonacci number.
    """
    words = np.empty(2 + len(data) // 4, dtype=np.uint32)
    words[:2], words[2:] = start, np.frombuffer(data, dtype=f"{order}u4")
    weights = _fibonacci(len(words) - 1)
    first, second = (
        int(start[0]) * int(weights[n - 3])
        + int(np.sum(words[1:n] * weights[n - 2 :: -1], dtype=np.uint32))
        for n in (len(words) - 1, len(words))
    )
    return first & 0xFFFFFFFF, second & 0xFFFFFFFF


@cache
def _fibonacci(n: int) -> NDArray[np.uint32]:
    """Return the first n Fibonacci numbers, from 1 and 1, modulo 2**32."""
    numbers = [1, 1]
    while len(numbers) < n:
        numbers.append((numbers[-1] + numbers[-2]) & 0xFFFFFFFF)
    return np.array(numbers[:n], dtype=np.uint32)


def _unpack(data: bytes) -> int:
    """Return the salt at the start of ``data``; 0 if that ends before it."""
    return int(_SALT.unpack_from(data)[0]) if len(data) >= _SALT.size else 0
