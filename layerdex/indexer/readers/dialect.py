"""How the tables and the text of a source are written."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType

from layerdex.arguments import (
    TAB_NAMES,
    check_count,
    check_type,
    to_choice,
    to_delimiter,
    to_encoding,
)
from layerdex.choices import Quoting
from layerdex.indexer.readers.row_size import MAX_ROW_BYTES

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
            object.__setattr__(self, "delimiter", to_delimiter(self.delimiter))
        n_bytes = check_count("max_row_bytes", self.max_row_bytes)
        object.__setattr__(self, "max_row_bytes", n_bytes)
        if self.encoding is not None:
            object.__setattr__(self, "encoding", to_encoding(self.encoding))


def delimiter_word(delimiter: str) -> str:
    """Return a delimiter as it is written after ``--delimiter``."""
    return TAB_NAMES[0] if delimiter == "\t" else f"'{delimiter}'"
