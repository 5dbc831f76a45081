"""Types of option values."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import click


class EnumChoice(click.Choice[str]):
    """A choice among the words of an enum, or of some of its members; gives the member."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        # click would take an enum's names, which are not the words that users write.
        word = choice.value if isinstance(choice, StrEnum) else choice
        return super().normalize_choice(word, ctx)


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
