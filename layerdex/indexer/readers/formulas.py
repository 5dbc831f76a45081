"""Formulas of an Excel workbook that have no saved value, as programs without Excel write them.

python-calamine reads such a cell as an empty one and tells no formula, so the XML of the sheet is
read (ECMA-376, part 1, 18.3.1.4: a cell ``c`` holds a formula ``f`` and its value ``v``).
"""

from __future__ import annotations

import logging
import posixpath
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO
from xml.parsers import expat
from zipfile import BadZipFile, ZipFile

from layerdex.errors import SourceError
from layerdex.indexer.readers.streams import CHUNK_BYTES, source_name

logger = logging.getLogger(__name__)

Position = tuple[int, int]
"""The number of a row from 1, and of a column from 0."""

CURE = "open and save the file in Excel or LibreOffice"

MOST_PACKED = 100
"""How many times larger than its packed form a large part of a workbook may be."""

_NOT_READABLE = (
    OSError,
    EOFError,
    BadZipFile,
    KeyError,  # of a part
    RuntimeError,  # of a password, or another compression
    ValueError,
    zlib.error,
    expat.ExpatError,
)

_FORMULA = re.compile(rb"<(?:\w+:)?f[\s/>]")
_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})", re.ASCII)
_TAG_BYTES = 64


def note_unsaved(path: Path, sheet: str) -> set[Position]:
    """Return the cells of a sheet with a formula but no value; log how many there are.

    There are none in a file that is not of the xlsx kind, or that only calamine can read.
    """
    try:
        with ZipFile(path) as archive:
            unsaved = _find_unsaved(archive, sheet)
    except _NOT_READABLE:
        return set()
    if unsaved:
        n = "1 formula" if len(unsaved) == 1 else f"{len(unsaved):,} formulas"
        logger.warning(
            "%s: %s without a saved value, read as empty (first in %s): %s",
            source_name(path),
            n,
            _reference(min(unsaved)),
            CURE,
        )
    return unsaved


def check_unpacked(path: Path, max_bytes: int) -> None:
    """Raise `SourceError` for a workbook with a part that unpacks to far more than it takes.

    XML is packed to a tenth or a twentieth; a part of more than ``max_bytes`` that is packed to
    less than a hundredth is there to fill the memory.
    """
    try:
        with ZipFile(path) as archive:
            parts = archive.infolist()
    except _NOT_READABLE:
        return
    for part in parts:
        if part.file_size > max(max_bytes, MOST_PACKED * part.compress_size):
            raise SourceError(
                f"{source_name(path)}: {part.filename} unpacks to {part.file_size / 1e6:,.0f} MB, "
                f"more than {MOST_PACKED} times its size; --max-row-size allows more"
            )


def _find_unsaved(archive: ZipFile, sheet: str) -> set[Position]:
    part = _part_of(archive, sheet)
    if part is None:
        return set()
    with archive.open(part) as file:
        if not _has_formula(file):
            return set()
    cells = _Cells()
    with archive.open(part) as file:
        cells.parse(_chunks(file))
    return cells.unsaved


def _part_of(archive: ZipFile, sheet: str) -> str | None:
    """Return the name of the part that holds a sheet."""
    relations = {
        attributes.get("Id"): attributes.get("Target", "")
        for attributes in _elements(archive, "xl/_rels/workbook.xml.rels", "Relationship")
    }
    for attributes in _elements(archive, "xl/workbook.xml", "sheet"):
        if attributes.get("name") == sheet:
            id_ = next((one for name, one in attributes.items() if name.endswith(":id")), None)
            target = relations.get(id_)
            return None if not target else posixpath.join("/xl", target).lstrip("/")
    return None


def _elements(archive: ZipFile, part: str, kind: str) -> list[dict[str, str]]:
    """Return the attributes of the elements of a kind in a small part."""
    found: list[dict[str, str]] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if _local(tag) == kind:
            found.append(attributes)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    with archive.open(part) as file:
        for chunk in _chunks(file):
            parser.Parse(chunk)
    return found


def _has_formula(file: IO[bytes]) -> bool:
    """Return whether any element may be a formula, much faster than by parsing."""
    end = b""
    for chunk in _chunks(file):
        if _FORMULA.search(end + chunk):
            return True
        end = chunk[-_TAG_BYTES:]
    return False


class _Cells:
    """Takes the elements of a sheet, and keeps the cells with a formula but no value."""

    def __init__(self) -> None:
        self.unsaved: set[Position] = set()
        self._line, self._column = 0, -1
        self._is_text = False
        self._has_formula = self._has_value = self._is_in_value = False

    def parse(self, chunks: Iterable[bytes]) -> None:
        """Read the XML of a sheet."""
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._read_text
        for chunk in chunks:
            parser.Parse(chunk)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        match _local(tag):
            case "row":
                self._line, self._column = int(attributes.get("r", self._line + 1)), -1
            case "c":
                self._column += 1
                if reference := _REFERENCE.fullmatch(attributes.get("r", "")):
                    self._column, self._line = _column(reference[1]), int(reference[2])
                self._is_text = attributes.get("t") == "str"
                self._has_formula = self._has_value = False
            case "f":
                self._has_formula = True
            case "v":
                self._is_in_value = True
                # A formula may have the empty text as its value.
                self._has_value = self._is_text

    def _read_text(self, text: str) -> None:
        if self._is_in_value and text:
            self._has_value = True

    def _end(self, tag: str) -> None:
        match _local(tag):
            case "v":
                self._is_in_value = False
            case "c" if self._has_formula and not self._has_value:
                self.unsaved.add((self._line, self._column))


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def _local(tag: str) -> str:
    """Return a tag without the prefix of its namespace."""
    return tag.rpartition(":")[2]


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _reference(position: Position) -> str:
    line, column = position
    letters, rest = "", column + 1
    while rest:
        rest, digit = divmod(rest - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return f"{letters}{line}"
