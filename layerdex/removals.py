"""How many documents may be removed at once without a question."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsIndex

from layerdex.arguments import format_value
from layerdex.errors import OptionError, RemovalError

DEFAULT_SHARE = 0.1
"""Of an index's documents; above it, somebody is asked."""

Confirm = Callable[[int, int], bool]
"""Takes the number of documents to remove and that of all; returns whether they may go."""

MaxRemoved = int | float | Confirm
"""A number of documents, a share of all (a float up to 1.0), or who decides above a tenth."""


@dataclass(frozen=True, slots=True)
class RemovalLimit:
    """The most documents that a change may remove, and who may allow more."""

    most: int | float = DEFAULT_SHARE
    confirm: Confirm | None = None

    @classmethod
    def parse(cls, max_removed: object) -> RemovalLimit:
        """Return the limit of a `MaxRemoved`; raises `OptionError`."""
        if callable(max_removed):
            return cls(confirm=max_removed)
        if isinstance(max_removed, float) and 0 <= max_removed <= 1:
            return cls(float(max_removed))
        if isinstance(max_removed, SupportsIndex) and not isinstance(max_removed, bool):
            most = operator.index(max_removed)
            if most >= 0:
                return cls(most)
        raise OptionError(
            "max_removed is a number of documents (an int), a share of them (a float up to 1.0) or "
            f"a function that is asked, not {format_value(max_removed)}"
        )

    def allows(self, n_removed: int, n_documents: int) -> bool:
        """Return whether so many of all documents may go without a question."""
        from fractions import Fraction  # not needed to search

        if isinstance(self.most, int):
            return n_removed <= self.most
        return n_removed <= Fraction(repr(self.most)) * n_documents  # 0.29 * 100 is below 29

    def check(self, n_removed: int, n_documents: int, *, verb: str, outcome: str) -> None:
        """Raise `RemovalError` where more would be removed, unless whoever is asked says yes.

        ``verb`` says what would happen to documents, ``outcome`` what has happened instead.
        """
        if self.allows(n_removed, n_documents):
            return
        if self.confirm is not None and self.confirm(n_removed, n_documents):
            return
        advice = f"; --max-removed {n_removed} allows it" if self.confirm is None else ""
        raise RemovalError(
            f"{n_removed:,} of {n_documents:,} documents would be {verb}, more than "
            f"{self.describe()}: {outcome}{advice}"
        )

    def describe(self) -> str:
        """Return the limit in words."""
        if isinstance(self.most, int):
            return f"{self.most:,}"
        return "a tenth" if self.most == DEFAULT_SHARE else f"{100 * self.most:.10g}%"
