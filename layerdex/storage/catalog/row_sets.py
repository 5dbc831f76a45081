"""The rows of a filter as arrays: each condition is one query, and their sets are joined here.

SQLite would look up each document that a condition on metadata matches, to see whether it is alive:
for half of a million documents that takes three times as long as the query itself.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from sqlalchemy import Connection, Select, func, select

from layerdex.choices import Operator
from layerdex.predicates import And, Condition, Not, Or, Predicate
from layerdex.records import Rows
from layerdex.storage.catalog.filters import FilterCompiler, Where, negated
from layerdex.storage.catalog.row_digests import damage_error
from layerdex.storage.catalog.rows import row_array

_MOST_TOGETHER = 50_000_000
"""Rows that are fetched as one text; SQLite's are of a gigabyte at most."""


def matching_rows(compiler: FilterCompiler, where: Where, live: Rows) -> Rows:
    """Return those of the ``live`` rows that meet every predicate; both ascend.

    They are those that the clauses of `FilterCompiler.clause` select.
    """
    return reduce(_intersect, [_rows_of(compiler, predicate, live) for predicate in where], live)


def _rows_of(compiler: FilterCompiler, predicate: Predicate, live: Rows) -> Rows:
    match predicate:
        case And(parts):
            return reduce(_intersect, [_rows_of(compiler, part, live) for part in parts])
        case Or(parts):
            return reduce(np.union1d, [_rows_of(compiler, part, live) for part in parts])
        case Not(part):
            return np.setdiff1d(live, _rows_of(compiler, part, live), assume_unique=True)
        case Condition(operator=Operator.NOT_EQUAL):
            return _rows_of(compiler, negated(predicate), live)
    query, is_complement = compiler.rows_query(predicate)
    found = fetch_rows(compiler.connection, query, at_most=len(live))
    if is_complement:
        return np.setdiff1d(live, found, assume_unique=True)
    return _intersect(found, live)


def fetch_rows(connection: Connection, query: Select[int], *, at_most: int) -> Rows:
    """Return the rows that a query selects, ascending; ``at_most`` is about how many.

    As one text they come in half of the time that a million results of a row each take.
    """
    if at_most > _MOST_TOGETHER:
        return np.sort(row_array(connection.scalars(query)))
    [column] = (selected := query.subquery()).c
    together = select(func.aggregate_strings(column, ","), func.count()).select_from(selected)
    text, n = connection.execute(together).one()
    try:
        rows = np.fromstring(text or "", dtype=np.int64, sep=",")
    except (DeprecationWarning, TypeError) as error:  # the warning may be an error
        raise damage_error("a row") from error
    if len(rows) != n:  # a forged row is null, or no whole number
        raise damage_error("a row")
    rows.sort()
    return rows


def _intersect(rows: Rows, others: Rows) -> Rows:
    return rows[np.isin(rows, others, assume_unique=True)]
