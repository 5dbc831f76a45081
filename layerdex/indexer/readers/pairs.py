"""Pairs of texts with human judgements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from layerdex.choices import Format
from layerdex.errors import RowError, SourceError
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.pair_fields import LABEL, SCORE, SENTENCE2, PairFields
from layerdex.indexer.readers.sources import read_all
from layerdex.indexer.readers.streams import source_name
from layerdex.indexer.readers.values import BadValueError, NullError, kind, text_value
from layerdex.records import Blank, Rejected, Scalar, Source

_BOOLEANS = ("true", "false")


@dataclass(frozen=True, slots=True)
class Pairs:
    """n pairs of texts, and their scores, or labels 0 and 1 if ``are_labels``.

    ``n_left_out`` other pairs have no text on one side, or no judgement.
    """

    first: list[str]
    second: list[str]
    values: list[float]
    are_labels: bool
    n_left_out: int = 0


def read_pairs(
    source: Source,
    *,
    format: Format | str = Format.AUTO,
    dialect: Dialect | None = None,
    fields: PairFields | None = None,
) -> Pairs:
    """Return the pairs of a source: two texts, and a score or a label of 0 or 1 (true or false).

    A pair whose text or judgement is null is left out. Raises `SourceError` for a source without
    pairs or fields, `RowError` for a pair with two judgements, with another kind of judgement than
    the first pair, or with a text or a judgement that cannot be one.
    """
    fields = fields or PairFields()
    first: list[str] = []
    second: list[str] = []
    values: list[float] = []
    judged_by: str | None = None
    n_left_out = 0
    first_error: RowError | None = None
    for row in read_all([source], format=format, fields=fields, dialect=dialect):
        if isinstance(row, Blank) and row.is_null:
            n_left_out += 1
            continue
        if isinstance(row, Rejected):
            raise RowError(str(row))
        if first_error is not None:
            continue
        try:
            found, value = _judgement(row.metadata, fields)
            text = text_value(row.metadata.get(fields.sentence2), field=SENTENCE2)
            if judged_by not in (None, found):
                raise BadValueError(f"the pair has no {judged_by}, as those before it")
            values.append(_number(value, found, fields.judgements[found]))
        except NullError:
            n_left_out += 1
            continue
        except BadValueError as error:
            # Read on: if no row has the field, the reader's error lists the existing ones.
            first_error = RowError(f"{row.origin}: {error}")
            continue
        judged_by = found
        first.append(row.text)
        second.append(text)
    if first_error is not None:
        raise first_error
    if not first:
        name = source_name(source) if isinstance(source, str | Path) else "<memory>"
        why = f" ({n_left_out:,} without a text or a judgement)" if n_left_out else ""
        raise SourceError(f"{name}: there are no pairs{why}")
    return Pairs(first, second, values, judged_by == LABEL, n_left_out)


def _judgement(row: Mapping[str, Scalar | None], fields: PairFields) -> tuple[str, Scalar]:
    found = [
        (option, value)
        for option, name in fields.judgements.items()
        if (value := row.get(name)) is not None
    ]
    if not found:
        raise NullError("the judgement is null")
    if len(found) > 1:
        raise BadValueError(
            f"there is a {SCORE} and a {LABEL}; name one with --score-field or --label-field"
        )
    return found[0]


def _number(value: Scalar, option: str, name: str) -> float:
    word = value.strip().lower() if isinstance(value, str) else value
    if option == LABEL and word in _BOOLEANS:
        return float(word == "true")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadValueError(f"{option} is not a finite number ({kind(value)} {str(value)[:40]!r})")
    if option == LABEL and number not in (0, 1):
        raise BadValueError(
            f"{LABEL} is 0 or 1, not {number:g}; a grade is read with --score-field {quote(name)}"
        )
    return number
