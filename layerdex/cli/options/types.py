"""Types of option values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

_UNITS = {
    "": 1,
    "b": 1,
    **dict.fromkeys(("k", "kb"), 10**3),
    **dict.fromkeys(("m", "mb"), 10**6),
    **dict.fromkeys(("g", "gb"), 10**9),
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([a-zA-Z]*)", re.ASCII)

_SHARE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(%?)", re.ASCII)
_PERCENT = 100


class EnumChoice(click.Choice[str]):
    """A choice among the words of an enum, or of some of its members; gives the member."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        # click would take an enum's names, which are not the words that users write.
        word = choice.value if isinstance(choice, StrEnum) else choice
        return super().normalize_choice(word, ctx)


class PathType(click.Path):
    """A path. An empty one would be the working directory, and is a variable that is not set."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(path_type=Path, dir_okay=dir_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty: is a shell variable not set?", param, ctx)
        return super().convert(value, param, ctx)


class NumbersType(click.ParamType[list[int]]):
    """Whole numbers separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is not a number, nor numbers separated by commas", param, ctx)


class SizeType(click.ParamType[int]):
    """A number of bytes, or of a unit such as 256MB (millions of bytes) or 1GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number, unit = found.groups() if (found := _SIZE.fullmatch(str(value))) else ("0", "")
        size = int(float(number) * _UNITS.get(unit.lower(), 0))
        if size < 1:
            self.fail(f"{value!r} is not a size such as 500kB, 256MB or 1GiB", param, ctx)
        return size


class DateFormatType(click.ParamType[tuple[str, str]]):
    """A field and the form of its dates, which the library checks."""

    name = "date format"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        field, equals, form = str(value).partition("=%")
        if not (field and equals):
            self.fail(f"{value!r} is not FIELD=FORMAT, such as 'Datum=%d.%m.%Y'", param, ctx)
        return field, f"%{form}"


def by_field(declared: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the forms of each field's dates, joined as the library takes several."""
    forms: dict[str, list[str]] = {}
    for field, form in declared:
        forms.setdefault(field, []).append(form)
    return {field: "|".join(each) for field, each in forms.items()}


class MaxRemovedType(click.ParamType[int | float]):
    """A number of documents, or a percentage of all; gives an int, or a share as a float."""

    name = "max_removed"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        number, percent = found.groups() if (found := _SHARE.fullmatch(str(value))) else ("", "")
        is_share = percent and float(number) <= _PERCENT
        if not is_share and (percent or not number.isdecimal()):
            message = f"{value!r} is neither a number of documents nor a percentage of them"
            self.fail(message, param, ctx)
        return float(Fraction(number) / _PERCENT) if is_share else int(number)


class SimilarityType(click.ParamType[float | str]):
    """A number, or a percentile such as p99, which the library checks."""

    name = "similarity"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        if str(value).startswith("p"):
            return str(value)
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor a percentile such as p99", param, ctx)
