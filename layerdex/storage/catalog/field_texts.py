"""The distinct texts of a field, and conditions that are decided over them.

Dates and patterns are compared in Python, so that every database gives the same verdicts. Texts of
dead versions are among those of a field until a compaction; what is said of a field goes by live
ones alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from sqlalchemy import BindParameter, ColumnElement, Connection, Select, bindparam, func, select

from layerdex.storage.catalog.field_names import Field
from layerdex.storage.catalog.schema import DOCUMENT, LIVE, METADATUM


def distinct_texts(connection: Connection, field: Field) -> list[str]:
    """Return the distinct texts of a field, also those of dead versions."""
    return list(connection.scalars(_texts(field).distinct()))


def live_texts(connection: Connection, field: Field, n: int | None = None) -> list[str]:
    """Return the distinct texts that live documents have in a field, at most ``n``."""
    return list(connection.scalars(_live_texts(field).distinct().limit(n)))


def find_day(connection: Connection, field: Field) -> str | None:
    """Return a text of a live document that may be a day in ISO 8601, or None."""
    column = METADATUM.c.text if field.column is None else field.column
    return connection.scalars(_live_texts(field).where(column.like("____-__-__%")).limit(1)).first()


def find_live(connection: Connection, field: Field, texts: Iterable[str]) -> str | None:
    """Return one of ``texts`` that a live document has in a field, or None."""
    given = list(texts)
    if not given:
        return None
    column = METADATUM.c.text if field.column is None else field.column
    query = _live_texts(field).where(is_one_of(column, given)).limit(1)
    return connection.scalars(query).first()


def is_one_of(
    column: ColumnElement[str] | ColumnElement[str | None], texts: Iterable[str]
) -> ColumnElement[bool]:
    """Return the clause that a column is one of any number of texts.

    They are bound as one JSON array. This is the one function here that is SQLite's: PostgreSQL
    has ``column = ANY(:texts)``.
    """
    array: BindParameter[str] = bindparam(
        None, json.dumps(list(texts), ensure_ascii=False), unique=True
    )
    return column.in_(select(func.json_each(array).table_valued("value").c.value))


def compile_pattern(pattern: str, *, ignores_case: bool) -> re.Pattern[str]:
    """Return SQL's pattern as a regular expression for `re.Pattern.fullmatch`.

    ``%`` is any text, ``_`` one character, and a backslash takes the next character as it is. To
    ignore case, the texts must be casefolded as the pattern is. It takes time linear in the text
    for each ``%``: the first place where a part fits is kept, as a later one never fits better.
    """
    if ignores_case:
        pattern = pattern.casefold()
    parts = [""]
    for piece in re.findall(r"\\.|.", pattern, re.DOTALL):
        if piece == "%":
            parts.append("")
        else:
            parts[-1] += "." if piece == "_" else re.escape(piece[-1])
    if len(parts) == 1:
        return re.compile(parts[0], re.DOTALL)
    first, *middle, last = parts
    between = "".join(f"(?>.*?{part})" for part in middle if part)
    return re.compile(f"{first}{between}.*{last}", re.DOTALL)


def _texts(field: Field) -> Select[str]:
    if field.column is None:
        return select(METADATUM.c.text).where(METADATUM.c.name == field.name)
    return select(field.column).where(field.column.is_not(None))  # type: ignore[return-value]


def _live_texts(field: Field) -> Select[str]:
    if field.column is not None:
        return _texts(field).where(LIVE)
    return _texts(field).join(DOCUMENT, DOCUMENT.c.row == METADATUM.c.row).where(LIVE)
