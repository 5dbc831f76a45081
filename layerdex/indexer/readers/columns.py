"""The columns of a table, and the cells of a row by their names; alike for csv, tsv and xlsx."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from layerdex.errors import SourceError
from layerdex.indexer.readers.annotations import recognise_short
from layerdex.indexer.readers.fields import OF_ONE, Fields, check_columns
from layerdex.indexer.readers.values import BadValueError, clean_string

logger = logging.getLogger(__name__)

EMPTY = ("", None)
"""Cells without a value."""


class Columns:
    """The columns that have a name; those without, as pandas' index or Excel's last, are left out.

    Raises `SourceError` for a header without the named fields, with two columns of a name, or with
    a name that metadata cannot have.
    """

    def __init__(self, header: Sequence[str], *, source: str, fields: Fields) -> None:
        self.n = len(header)
        self._source = source
        named = {i: name.strip() for i, name in enumerate(header) if name.strip()}
        self._named = list(named.items())
        self._names = list(named.values())
        self.fields = fields = fields.of(self._names)
        self._kept_empty = fields.kept_empty
        self.text_position = next((i for i, name in self._named if name == fields.text), None)
        self._nameless = sorted(set(range(self.n)) - named.keys())
        self.n_least = max(named, default=-1) + 1
        label_paths = _label_paths(self._names, fields)
        check_columns(self._names, fields=fields, source=source, inner=label_paths)
        self._decision = recognise_short(self._names, fields)
        _check_names(self._names, fields=fields, source=source)

    def fits(self, cells: Sequence[object]) -> bool:
        """Return whether a row has a cell for each named column, and no value beyond the header."""
        return len(cells) >= self.n_least and all(cell in EMPTY for cell in cells[self.n :])

    def describe(self, position: int) -> str:
        """Return the name of a cell's column for a message, empty for none."""
        names = dict(self._named)
        return f" in column {names[position]!r}" if position in names else ""

    def strip(self, cells: Sequence[str]) -> list[str]:
        """Return the cells without the blanks around them, but a text as it is."""
        return [cell if i == self.text_position else cell.strip() for i, cell in enumerate(cells)]

    def misfit(self, cells: Sequence[object]) -> str:
        """Return a reason why a row does not fit."""
        n_cells = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        return f"{n_cells}, but the header has {self.n}"

    def row(self, cells: Sequence[object]) -> Mapping[object, object]:
        """Return the cells of a row that fits by the names of their columns.

        An empty cell is null, but an empty text of a document stays, to be rejected as such.
        """
        if self._decision is not None:  # once, as a header may be read more than once
            logger.warning("%s: %s", self._source, self._decision)
            self._decision = None
        if len(cells) != len(self._names):
            self._note_nameless(cells)
            cells = [cells[i] for i, _ in self._named]
        kept, pairs = self._kept_empty, zip(self._names, cells, strict=True)
        return {name: cell if cell != "" or name == kept else None for name, cell in pairs}

    def _note_nameless(self, cells: Sequence[object]) -> None:
        """Log once that columns without a name have values."""
        for i in self._nameless:
            if i < len(cells) and cells[i] not in EMPTY:
                logger.warning(
                    "%s: column %d has values but no name, and is left out",
                    self._source,
                    i + 1,
                )
                self._nameless = []
                return


def strip_names(fields: Fields) -> Fields:
    """Return fields without blanks around their names, as columns are named without them."""
    names = {field.name: getattr(fields, field.name) for field in dataclasses.fields(fields)}
    for part, name in names.items():
        if isinstance(name, str):
            names[part] = name.strip()
        elif isinstance(name, tuple):
            names[part] = tuple(map(str.strip, name))
    return replace(fields, **names)


def is_blank(cells: Sequence[object]) -> bool:
    """Return whether a row is a spreadsheet's blank line: several cells without a value."""
    return len(cells) > 1 and all(cell in EMPTY for cell in cells)


def _label_paths(names: Collection[str], fields: Fields) -> list[str]:
    """Return the path of the label if it leads into a cell, where Label Studio may write a list."""
    root, *steps = (fields.label_name or "").split(".")
    return [".".join([root, *steps])] if root in names and {*steps} <= {*OF_ONE} else []


def _check_names(names: Sequence[str], *, fields: Fields, source: str) -> None:
    kept = names if fields.metadata is None else fields.metadata
    try:
        for name in kept:
            clean_string(name, field=f"the name of column {name!a}")
    except BadValueError as error:
        advice = "rename it, or name the columns to keep with --metadata-field"
        raise SourceError(f"{source}: {error}; {advice}") from None
