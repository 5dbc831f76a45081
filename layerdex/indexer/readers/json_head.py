"""How a JSON text begins, from which its shape is recognised."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from layerdex.indexer.readers.streams import CHUNK_BYTES, replay

MAX_HEAD_BYTES = 1 << 20
"""The first object is looked at up to here; of a longer one the fields that begin before."""

_BLANKS = re.compile(r"[ \t\r\n]*")
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Head:
    """The start of a JSON text: its first object, or what it begins with instead.

    ``start`` are its first two characters without blanks. ``fields`` are the complete fields of the
    first object; ``cut`` is the name of the field in which the head ends, and ``rest`` how its
    value begins. ``following`` is what follows a complete object, None for an object that is cut or
    broken. ``is_spread`` says that the object goes over several lines.
    """

    start: str
    fields: Mapping[object, object] = field(default_factory=dict)
    cut: str | None = None
    rest: str = ""
    following: str | None = None
    is_spread: bool = False

    @property
    def is_alone(self) -> bool:
        """Whether nothing follows the first object, as far as the head shows."""
        return not (self.following or "").strip()


def read_head(stream: BinaryIO) -> tuple[Head, BinaryIO]:
    """Return the head of a JSON text, and the whole stream.

    More than a first chunk is read only while the first object is longer, up to 1 MiB.
    """
    data = b""
    while True:
        more = stream.read(max(CHUNK_BYTES, len(data)))
        data += more
        head = _scan(data.decode(errors="replace"))
        is_decided = head.following is not None or not head.start.startswith("{")
        if is_decided or not more or len(data) >= MAX_HEAD_BYTES:
            return head, replay(data, stream)


def _scan(text: str) -> Head:
    begin = _skip(text, 0)
    start = text[begin : begin + 1] + text[(second := _skip(text, begin + 1)) : second + 1]
    if text[begin : begin + 1] != "{":
        return Head(start)
    fields: dict[object, object] = {}
    cut, position = None, second
    try:
        while text[position : position + 1] != "}":
            cut = None
            name, position = _decoder.raw_decode(text, position)
            position = _skip(text, position)
            if not isinstance(name, str) or text[position : position + 1] != ":":
                break
            cut, position = name, _skip(text, position + 1)
            fields[name], end = _decoder.raw_decode(text, position)
            position = _skip(text, end)
            if text[position : position + 1] == ",":
                position = _skip(text, position + 1)
            elif text[position : position + 1] != "}":
                break
        else:
            following = text[position + 1 :]
            return Head(start, fields, None, "", following, "\n" in text[begin:position])
    except RecursionError:
        cut = None
    except ValueError:  # cut, or broken: the reader of the rows finds out
        pass
    return Head(start, fields, cut, text[position:], None, _is_spread(text[begin:]))


def _is_spread(text: str) -> bool:
    """Return whether an object that is cut or broken looks like one over several lines."""
    first, newline, second = text.partition("\n")
    is_open = first.rstrip().endswith(("{", "[", ","))
    return bool(newline) and is_open and not second.lstrip().startswith("{")


def _skip(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return position if blanks is None else blanks.end()
