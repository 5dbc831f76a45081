"""How results look in Python: a short repr, HTML for notebooks, and data frames."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from reprlib import Repr
from typing import TYPE_CHECKING, Any, TypeVar

from layerdex.errors import MissingPackageError
from layerdex.wording import shorten

if TYPE_CHECKING:
    from pandas import DataFrame

N_ROWS_SHOWN = 20
_N_CHARACTERS = 300
_CELL_CHARACTERS = 200
_SMALL = 0.001

TEXT, WHOLE, WHOLE_OR_NONE, NUMBER, TRUTH = "str", "int64", "Int64", "float64", "bool"
"""pandas' dtypes of columns: a missing whole number is NA; of texts and figures NaN.

A text is of pandas' own ``str``, not ``string``, whose NA is neither equal nor unequal to a label,
so that a mean of comparisons would leave it out.
"""

LAYER = "layer"
"""A column of targets' names: ``int64`` where all are layers, else ``string``."""

Row = Mapping[str, Any]

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Table:
    """The ``n`` rows of a result, with the dtypes of its columns.

    Rows may have more columns, such as metadata; these follow in the order in which they are first
    seen, their dtypes by their values.
    """

    dtypes: Mapping[str, str]
    n: int
    rows: Iterable[Row]


class _ShortRepr(Repr):
    """Shortens what fields of results have."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring, self.maxother, self.maxtuple, self.maxdict = 70, 60, 3, 4


_SHORT = _ShortRepr()


class Brief:
    """A dataclass whose repr shortens long values; declare it with ``repr=False``."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={_SHORT.repr(getattr(self, field.name))}"
            for field in fields(self)  # type: ignore[arg-type]
            if field.repr
        ]
        return _limit(f"{type(self).__name__}({', '.join(shown)})")


class Tabular(ABC):
    """A result with rows: short as text, a table in a notebook, a data frame by `to_pandas`."""

    __slots__ = ()

    @abstractmethod
    def _summary(self) -> str:
        """Return the figures that matter, on one line."""

    @abstractmethod
    def _table(self) -> Table:
        """Return the rows and their columns."""

    def __repr__(self) -> str:
        return _limit(f"<{type(self).__name__}: {self._summary()}>")

    def _repr_html_(self) -> str:
        """Return the first rows as an HTML table, which notebooks show."""
        from html import escape  # not needed by a command

        table = self._table()
        rows = list(islice(table.rows, N_ROWS_SHOWN))
        names = [
            name
            for name in _column_names(table.dtypes, rows)
            if not rows or any(row.get(name) is not None for row in rows)
        ]
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            f"<tr>{''.join(_cell(row.get(name)) for name in names)}</tr>" for row in rows
        )
        n_more = table.n - len(rows)
        more = f"<p>… and {n_more:,} more</p>" if n_more > 0 else ""
        return (
            f"<div><p>{escape(repr(self)[1:-1])}</p><table>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"
        )

    def to_pandas(self) -> DataFrame:
        """Return the rows as a data frame.

        Texts are of pandas' dtype ``str``, in which a missing one is unequal to any other, figures
        ``float64``, counts ``int64`` (``Int64`` where one may be missing). Raises
        `MissingPackageError` without pandas.
        """
        pandas = _import_pandas()
        table = self._table()
        rows = list(table.rows)
        columns = {}
        for name in _column_names(table.dtypes, rows):
            values: list[Any] = [row.get(name) for row in rows]
            dtype = table.dtypes.get(name) or _dtype_of(values)
            if dtype == LAYER:
                is_plain = all(isinstance(value, int) for value in values)
                dtype, values = (WHOLE, values) if is_plain else (TEXT, list(map(str, values)))
            columns[name] = pandas.Series(values, dtype=dtype)
        return pandas.DataFrame(columns)


def series_index(values: object) -> Any:
    """Return the index of a pandas series, None for anything else."""
    pandas = sys.modules.get("pandas")
    return values.index if pandas is not None and isinstance(values, pandas.Series) else None


class TabularList(list[ItemT], Tabular):
    """A list that is shown as a table, and becomes one data frame."""

    __slots__ = ()

    __repr__ = Tabular.__repr__


def with_metadata(row: dict[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with a document's metadata, as ``metadata.NAME`` where it has NAME already."""
    named = {f"metadata.{name}" if name in row else name: value for name, value in metadata.items()}
    return {**row, **named}


def shorten_repr(text: str) -> str:
    """Return the start of a text in quotes, as a summary shows it."""
    return repr(shorten(text))


def _column_names(dtypes: Mapping[str, str], rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys([*dtypes, *(name for row in rows for name in row)]))


def _limit(text: str) -> str:
    return text if len(text) <= _N_CHARACTERS else f"{text[: _N_CHARACTERS - 2]}…{text[-1]}"


def _cell(value: object) -> str:
    from html import escape

    if value is None:
        return "<td></td>"
    if isinstance(value, int | float):
        return f'<td style="text-align: right">{_figure(value)}</td>'
    text = escape(shorten(str(value), _CELL_CHARACTERS))
    # A text from right to left must not turn its neighbours round.
    return f'<td dir="auto" style="text-align: left">{text}</td>'


def _figure(value: int | float) -> str:
    if isinstance(value, float):
        return f"{value:.2g}" if 0 < abs(value) < _SMALL else f"{value:.4f}"
    return str(value)


def _dtype_of(values: Sequence[object]) -> str:
    """Return the dtype of values of one type, ``object`` for several."""
    types = {type(value) for value in values if value is not None}
    has_none = None in values
    if types == {str}:
        return TEXT
    if types == {bool}:
        return "boolean" if has_none else TRUTH
    if types == {int}:
        return WHOLE_OR_NONE if has_none else WHOLE
    return NUMBER if types in ({float}, {int, float}) else "object"


def _import_pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingPackageError(
            "data frames are made with pandas, which is not installed: "
            "pip install 'layerdex[pandas]'"
        ) from None
    return pandas
