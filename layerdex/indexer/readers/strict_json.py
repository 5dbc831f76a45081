"""JSON as RFC 8259 defines it: stricter than Python's decoder."""

from __future__ import annotations

import json
from collections import Counter


def describe(error: json.JSONDecodeError) -> str:
    """Return what is wrong, without the words with which Python introduces a position."""
    return error.msg.removesuffix(": ").removesuffix(" at").removesuffix(" starting")


class StrictDecoder:
    """A JSON decoder that also finds repeated keys, NaN, Infinity and overlong numbers.

    After each call ``problem`` describes the first of these, or is None. It is not raised, so that
    a reader of an array learns where the element ends.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self._json = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_int=self._int
        )

    def decode(self, text: str) -> object:
        """Decode a whole text. Raises as `json.JSONDecoder.decode` does."""
        self.problem = None
        value: object = self._json.decode(text)
        return value

    def raw_decode(self, text: str, start: int) -> tuple[object, int]:
        """Decode the value at ``start``; return it and its end."""
        self.problem = None
        return self._json.raw_decode(text, start)

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) < len(pairs):
            (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            self._note(f"key {repeated!r} appears twice")
        return result

    def _constant(self, literal: str) -> None:
        self._note(f"{literal} is not a JSON value: write null")

    def _int(self, digits: str) -> int:
        try:
            return int(digits)
        except ValueError:  # Python's limit is 4300 digits
            self._note(f"a number of {len(digits)} digits is too long")
            return 0

    def _note(self, problem: str) -> None:
        self.problem = self.problem or problem
