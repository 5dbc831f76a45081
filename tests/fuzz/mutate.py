"""Changes of valid samples, all of them functions of a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

_NUMBERS = (0, 1, -1, 127, 128, 255, 1 << 15, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 62) + 1)
_TOKENS = [
    *(b'"', b'""', b"'", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\t", b"\0", b"\\"),
    *(b"\\ud800", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"NaN"),
    *(b"1e999", b"-Infinity", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"null", b"PAR1"),
    *(b'"text"', b'"id"', b'"metadata"', b"text,id", "\u2028🙂".encode(), b"A" * 70_000),
]


def mutate(samples: Sequence[bytes], draw: random.Random) -> bytes:
    """Return one of the samples after one to eight changes."""
    data = bytearray(draw.choice(samples))
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        draw.choice(_CHANGES)(data, samples, draw)
    return bytes(data)


def _flip(data: bytearray, _samples: Sequence[bytes], draw: random.Random) -> None:
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _replace(data: bytearray, _samples: Sequence[bytes], draw: random.Random) -> None:
    if data:
        data[draw.randrange(len(data))] = draw.randrange(256)


def _number(data: bytearray, _samples: Sequence[bytes], draw: random.Random) -> None:
    """Write a huge or odd count over 4 or 8 bytes, in the first 128 half of the time."""
    size, form = draw.choice(((4, "<I"), (8, "<Q")))
    end = min(len(data), 128) if draw.random() < 0.5 else len(data)
    if end >= size:
        at = draw.randrange(end - size + 1)
        data[at : at + size] = struct.pack(form, draw.choice(_NUMBERS) % (1 << 8 * size))


def _cut(data: bytearray, _samples: Sequence[bytes], draw: random.Random) -> None:
    del data[draw.randrange(len(data) + 1) :]


def _remove(data: bytearray, _samples: Sequence[bytes], draw: random.Random) -> None:
    start = draw.randrange(len(data) + 1)
    del data[start : start + draw.randrange(64)]


def _repeat(data: bytearray, _samples: Sequence[bytes], draw: random.Random) -> None:
    start = draw.randrange(len(data) + 1)
    data[start:start] = data[start : start + draw.randrange(64)] * draw.choice((1, 2, 200))


def _splice(data: bytearray, samples: Sequence[bytes], draw: random.Random) -> None:
    """Put a part of a sample, or its end, in place of ours."""
    other = draw.choice(samples)
    start = draw.randrange(len(other) + 1)
    at = draw.randrange(len(data) + 1)
    if draw.random() < 0.5:
        data[at:] = other[start:]
    else:
        data[at:at] = other[start : start + draw.randrange(256)]


def _insert(data: bytearray, _samples: Sequence[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.choice(_TOKENS)


_CHANGES: list[Callable[[bytearray, Sequence[bytes], random.Random], None]] = [
    *(_flip, _flip, _replace, _number, _cut, _remove, _repeat, _splice, _insert),
]
