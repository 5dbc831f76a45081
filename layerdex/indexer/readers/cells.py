"""Where the cells of csv begin and end, for text that is passed over and kept nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Place(Enum):
    """Where in a row of csv a text ends."""

    START = auto()
    PLAIN = auto()
    QUOTED = auto()
    QUOTE = auto()
    """After a quote within quotes, which ends the cell or is one of two."""
    BROKEN = auto()
    """After text that follows the end of a quoted cell."""


@dataclass(frozen=True, slots=True)
class Cells:
    """How rows are divided into cells, as `csv.reader` does it with ``strict``."""

    delimiter: str
    skips_blanks: bool

    def follow(self, place: Place, text: str) -> Place:
        """Return where a part of a row ends that begins at ``place``; line ends only in quotes."""
        at = 0
        while at < len(text):
            match place:
                case Place.BROKEN:
                    break
                case Place.QUOTED | Place.PLAIN:
                    is_quoted = place is Place.QUOTED
                    found = text.find('"' if is_quoted else self.delimiter, at)
                    if found < 0:
                        break
                    place, at = Place.QUOTE if is_quoted else Place.START, found + 1
                case _:
                    place, at = self._enter(place, text[at]), at + 1
        return place

    def lead(self, start: Place, end: Place) -> str:
        """Return a short text that leads from one place to another within, after or past quotes."""
        if (start is Place.QUOTED) == (end is Place.QUOTED) and end is not Place.BROKEN:
            return ""
        opened = "" if start is Place.QUOTED else f'{self.delimiter}"'
        match end:
            case Place.QUOTED:
                return opened
            case Place.BROKEN:
                return f'{opened}"?'
            case _:
                return '"'

    def _enter(self, place: Place, mark: str) -> Place:
        if mark == '"':
            return Place.QUOTED
        if mark == self.delimiter:
            return Place.START
        if place is Place.QUOTE:
            return Place.BROKEN
        return Place.START if mark == " " and self.skips_blanks else Place.PLAIN
