"""Pairs of texts with human judgements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from layerdex.choices import Format
from layerdex.errors import RowError, SourceError
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.sources import read_all
from layerdex.indexer.readers.streams import source_name
from layerdex.indexer.readers.values import BadValueError, kind, text_value
from layerdex.records import UNSET, Rejected, Scalar, Source

FIRST, SECOND, SCORE, LABEL = "sentence1", "sentence2", "score", "label"


@dataclass(frozen=True, slots=True)
class Pairs:
    """n pairs of texts, and their scores, or labels 0 and 1 if ``are_labels``."""

    first: list[str]
    second: list[str]
    values: list[float]
    are_labels: bool


def read_pairs(
    source: Source, *, format: Format | str = Format.AUTO, dialect: Dialect | None = None
) -> Pairs:
    """Return the pairs of a source: ``sentence1``, ``sentence2``, and a ``score`` or a ``label``.

    A label is 0 or 1. Raises `SourceError` for an empty source, `RowError` for a pair without a
    text, without exactly one judgement, or with another kind of judgement than the first pair.
    """
    first: list[str] = []
    second: list[str] = []
    values: list[float] = []
    judged_by: str | None = None
    fields = Fields(text=FIRST, label=UNSET)
    for row in read_all([source], format=format, fields=fields, dialect=dialect):
        if isinstance(row, Rejected):
            raise RowError(str(row))
        try:
            judged_by = judged_by or _judgement(row.metadata)
            if _judgement(row.metadata) != judged_by:
                raise BadValueError(f"the pair has no {judged_by}, as those before it")
            second.append(text_value(row.metadata.get(SECOND), field=SECOND))
            values.append(_value(row.metadata[judged_by], judged_by))
        except BadValueError as error:
            raise RowError(f"{row.origin}: {error}") from error
        first.append(row.text)
    if not first:
        name = source_name(source) if isinstance(source, str | Path) else "<memory>"
        raise SourceError(f"{name}: there are no pairs")
    return Pairs(first, second, values, judged_by == LABEL)


def _judgement(row: Mapping[str, Scalar | None]) -> str:
    names = [name for name in (SCORE, LABEL) if row.get(name) is not None]
    if len(names) != 1:
        raise BadValueError(f"a pair has a {SCORE} or a {LABEL} (0 or 1), not {len(names)} of them")
    return names[0]


def _value(value: Scalar | None, name: str) -> float:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadValueError(f"{name} is not a finite number ({kind(value)} {str(value)[:40]!r})")
    if name == LABEL and number not in (0, 1):
        raise BadValueError(f"{LABEL} is 0 or 1, not {number:g}; a grade goes in {SCORE!r}")
    return number
