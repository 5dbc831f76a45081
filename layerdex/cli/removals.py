"""The question before many documents are removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from layerdex.cli.context import Context

if TYPE_CHECKING:
    from layerdex.removals import MaxRemoved


def removal_limit(
    context: Context,
    max_removed: int | float | None,
    *,
    question: str,
    before_asking: Callable[[], None] | None = None,
    is_input_read: bool = False,
) -> MaxRemoved:
    """Return the limit that was given, else a question where it can be asked, else the default.

    ``question`` has places for both numbers. ``is_input_read`` says that standard input has data.
    """
    from layerdex.removals import DEFAULT_SHARE

    if max_removed is not None:
        return max_removed
    if is_input_read or not context.can_ask:
        return DEFAULT_SHARE

    def ask(n_removed: int, n_documents: int) -> bool:
        if before_asking is not None:
            before_asking()
        return click.confirm(question.format(n_removed, n_documents), err=True)

    return ask


def describe_excess(n_removed: int, n_documents: int, max_removed: int | float | None) -> str:
    """Say what a removal would need, empty if nothing."""
    from layerdex.removals import DEFAULT_SHARE, RemovalLimit

    limit = RemovalLimit.parse(DEFAULT_SHARE if max_removed is None else max_removed)
    if limit.allows(n_removed, n_documents):
        return ""
    either = "" if max_removed is not None else ", or a yes on a terminal"
    return (
        f"{n_removed:,} of {n_documents:,} documents is more than {limit.describe()}: "
        f"this needs --max-removed {n_removed}{either}"
    )
