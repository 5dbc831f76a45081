"""What a dry run of ``index`` finds: a line a document, or all of it in one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from layerdex.cli.output import escape, note, print_json

if TYPE_CHECKING:
    from layerdex.choices import Change
    from layerdex.indexer.pipeline.pipeline import BuildReport


class Changes:
    """Takes changes as they are found; only JSON has to wait for the last one."""

    def __init__(self, as_json: bool) -> None:
        self._ids: dict[str, list[str]] | None = (
            {"new": [], "updated": [], "removed": []} if as_json else None
        )

    def add(self, change: Change, identifier: str) -> None:
        """Print a change, or keep it."""
        if self._ids is None:
            click.echo(f"{change.value} {escape(identifier)}")
        else:
            self._ids[change.value].append(identifier)

    def summarize(self, report: BuildReport) -> None:
        """Say how many of each there would be."""
        if self._ids is None:
            note(
                f"{report.n_read:,} read; {report.n_new:,} new, {report.n_updated:,} updated, "
                f"{report.n_unchanged:,} unchanged, {report.n_rejected:,} rejected, "
                f"{report.n_removed:,} removed: nothing was changed"
            )
        else:
            print_json({**asdict(report), "ids": self._ids})
