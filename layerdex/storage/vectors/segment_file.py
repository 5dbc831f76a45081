"""What the catalog records of a layer file: its size, and a hash of each block.

A reader checks the blocks that it reads. Files of schema 0003 and before have one checksum of the
whole instead, and are read whole when they are opened.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_digest

from layerdex.storage.files import checksum
from layerdex.storage.vectors.read_advice import can_read, read_in_order, will_read

BLOCK_BYTES = 1 << 17
"""xxhash lets other threads run while it hashes more than 64 KiB; this takes it some 10 µs."""

_HASH_BYTES = 8
_MANY_BLOCKS = 16
"""2 MB, of which the kernel reads ahead several hundred KB at least."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """Size and checksum of a layer file, as recorded in the catalog.

    ``block_hashes`` has 8 bytes for each `BLOCK_BYTES` of the file, the last block being shorter:
    its XXH3 of 64 bits, big-endian. A file of an older schema has the CRC-32 of the whole instead,
    and always just one of the two is None.
    """

    size_bytes: int
    crc32: int | None
    block_hashes: bytes | None

    @classmethod
    def of(cls, data: NDArray[np.uint8]) -> SegmentFile:
        """Return the record of a file with these bytes."""
        starts = range(0, len(data), BLOCK_BYTES)
        view = data.data  # slicing an array would take longer
        hashes = [xxh3_64_digest(view[start : start + BLOCK_BYTES]) for start in starts]
        return cls(len(data), None, b"".join(hashes))

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return -(-self.size_bytes // BLOCK_BYTES)

    @property
    def n_bytes_when_opened(self) -> int:
        """The number of bytes that are checked when the file is opened."""
        return self.size_bytes if self.block_hashes is None else min(self.size_bytes, BLOCK_BYTES)

    @property
    def is_valid(self) -> bool:
        """Whether there is either a checksum or a hash for each block; the size is a count."""
        if self.crc32 is not None or not isinstance(self.block_hashes, bytes):
            return isinstance(self.crc32, int) and self.block_hashes is None
        return len(self.block_hashes) == self.n_blocks * _HASH_BYTES

    def matches(self, data: NDArray[np.uint8]) -> bool:
        """Return whether these are the bytes of the recorded file."""
        if self.block_hashes is None:
            return len(data) == self.size_bytes and zlib.crc32(data.data) == self.crc32
        return SegmentFile.of(data) == self

    def are_blocks(self, file: BinaryIO, first_block: bytes, n_blocks: int) -> bool:
        """Return whether an open file, of which the first block was read, begins as recorded.

        It is read on, not mapped, up to ``n_blocks``: what cannot be read is an OSError then, on
        any kernel. A file without hashes of blocks is read to its end.
        """
        if self.block_hashes is None:
            return checksum(file, zlib.crc32(first_block)) == self.crc32
        blocks = chain([first_block], (file.read(BLOCK_BYTES) for _ in range(1, n_blocks)))
        return all(self.is_block(at, block) for at, block in enumerate(blocks))

    def is_block(self, at: int, data: Any) -> bool:
        """Return whether a buffer holds the block at a position, of a file with hashes."""
        start = at * _HASH_BYTES
        recorded = (self.block_hashes or b"")[start : start + _HASH_BYTES]
        return bool(xxh3_64_digest(data) == recorded)


class WrittenBlocks:
    """Hashes the blocks of a file while it is written, so that it need not be read again."""

    def __init__(self) -> None:
        self._size_bytes = 0
        self._hashes: list[bytes] = []
        self._block = xxh3_64()

    def add(self, data: bytes | memoryview) -> None:
        """Go on with the bytes that are written next."""
        left = memoryview(data)
        while left:
            part = left[: BLOCK_BYTES - self._size_bytes % BLOCK_BYTES]
            self._block.update(part)
            self._size_bytes += len(part)
            if self._size_bytes % BLOCK_BYTES == 0:
                self._end_block()
            left = left[len(part) :]

    def record(self) -> SegmentFile:
        """Return the record of the whole file."""
        if self._size_bytes % BLOCK_BYTES:
            self._end_block()
        return SegmentFile(self._size_bytes, None, b"".join(self._hashes))

    def _end_block(self) -> None:
        self._hashes.append(self._block.digest())
        self._block.reset()


class CheckedBlocks:
    """The blocks of a mapped file, each compared with its hash before it is first read.

    Damage that comes later is not noticed. Two threads may check the same block, to the same end.
    """

    def __init__(self, data: NDArray[np.uint8], recorded: SegmentFile) -> None:
        """Take the bytes of a whole file.

        Its first block was checked when it was read, which says nothing of the map: the file may
        have become shorter since.
        """
        self._data = data
        self._recorded = recorded
        # There is no hash to compare with: a file without was read whole.
        self.are_all_checked = recorded.block_hashes is None
        self._is_checked = np.full(recorded.n_blocks, self.are_all_checked)

    def are_sound(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> bool:
        """Return whether all blocks are sound that have a byte from a start up to its stop.

        One that cannot be read is not. No stop is less than or equal to its start.
        """
        n_blocks = len(self._is_checked)
        # +1 where a range of blocks begins and -1 behind its end: the sum is positive within one.
        changes = np.bincount(starts // BLOCK_BYTES, minlength=n_blocks + 1)
        changes -= np.bincount((stops - 1) // BLOCK_BYTES + 1, minlength=n_blocks + 1)
        is_read = np.cumsum(changes)[:n_blocks] > 0
        unchecked = np.flatnonzero(is_read & ~self._is_checked)
        if not len(unchecked):
            self._note_if_all_checked()
            return True
        first, stop = int(unchecked[0]), int(unchecked[-1]) + 1
        ends_run = (np.diff(unchecked) > 1) | (unchecked[1:] % _MANY_BLOCKS == 0)
        runs = np.split(unchecked, np.flatnonzero(ends_run) + 1)
        if len(unchecked) >= max(_MANY_BLOCKS, (stop - first) // 2):
            with read_in_order(self._bytes(first, stop)):
                is_sound = all(map(self._check, runs))
        else:
            is_sound = all(map(self._check_few, runs))
        self._note_if_all_checked()
        return is_sound

    def _note_if_all_checked(self) -> None:
        # Never back to False: another thread may have checked the last block meanwhile.
        if self._is_checked.all():
            self.are_all_checked = True

    def _bytes(self, first: int, stop: int) -> NDArray[np.uint8]:
        return self._data[first * BLOCK_BYTES : stop * BLOCK_BYTES]

    def _check(self, run: NDArray[np.int64]) -> bool:
        """Check neighboring blocks, few at a time: a call to the kernel for each took as long."""
        first, stop = int(run[0]), int(run[-1]) + 1
        if not can_read(self._bytes(first, stop)):
            return False
        for at in range(first, stop):
            if not self._recorded.is_block(at, self._bytes(at, at + 1).data):
                return False
            self._is_checked[at] = True
        return True

    def _check_few(self, run: NDArray[np.int64]) -> bool:
        will_read(self._bytes(int(run[0]), int(run[-1]) + 1))
        return self._check(run)
