"""How the tables and the text of a source are written."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from types import NoneType

from layerdex.arguments import check_count, check_type, format_value, to_choice
from layerdex.choices import Quoting
from layerdex.errors import OptionError
from layerdex.indexer.readers.row_size import MAX_ROW_BYTES

TAB_NAMES = ("tab", "\\t")
"""What a shell's user can type for a tab."""

UTF_8 = "utf-8"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a file does not say of itself; None, and ``auto``, is what is recognised.

    ``delimiter`` is the one character between the cells of csv and tsv, or ``tab``. ``encoding`` is
    a codec of Python's for text without a byte order mark. ``quoting`` says whether quotes
    enclose cells of csv and tsv (``csv``) or are part of the text (``none``). ``sheet`` is the name
    of a spreadsheet's sheet. A row of more than ``max_row_bytes`` is rejected. Raises `OptionError`
    for a value that cannot be one.
    """

    delimiter: str | None = None
    encoding: str | None = None
    quoting: Quoting | str = Quoting.AUTO
    sheet: str | None = None
    max_row_bytes: int = MAX_ROW_BYTES

    def __post_init__(self) -> None:
        for name in ("delimiter", "encoding", "sheet"):
            check_type(getattr(self, name), (str, NoneType), what=f"{name} is a string")
        object.__setattr__(self, "quoting", to_choice(Quoting, self.quoting))
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _one_character(self.delimiter))
        n_bytes = check_count("max_row_bytes", self.max_row_bytes)
        object.__setattr__(self, "max_row_bytes", n_bytes)
        if self.encoding is not None:
            object.__setattr__(self, "encoding", _codec_name(self.encoding))


def delimiter_word(delimiter: str) -> str:
    """Return a delimiter as it is written after ``--delimiter``."""
    return TAB_NAMES[0] if delimiter == "\t" else f"'{delimiter}'"


def _one_character(delimiter: str) -> str:
    if delimiter in TAB_NAMES:
        return "\t"
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise OptionError(
            f"delimiter must be one character that is not a quote, or tab, "
            f"got {format_value(delimiter)}"
        )
    return delimiter


def _codec_name(encoding: str) -> str:
    try:
        "".encode(encoding)  # refuses codecs that are not encodings of text, such as base64
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise OptionError(
            f"{format_value(encoding)} is not an encoding that Python knows; "
            f"names are utf-8, utf-16-le, cp1252, latin-1, ..."
        ) from None
    return UTF_8 if name == "utf-8-sig" else name
