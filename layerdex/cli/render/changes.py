"""What a run of ``index`` did to documents, or what a dry run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerdex.choices import Change
from layerdex.cli.render.text import counted, escape

if TYPE_CHECKING:
    from layerdex.index.checks import BuildReport
    from layerdex.records import EncoderSettings


N_LISTED = 10  # of each kind


class Changes:
    """Prints the first changes of each kind as they are found, and keeps the ids of all.

    ``n_listed`` is how many of each kind are printed, None for all.
    """

    def __init__(self, *, n_listed: int | None) -> None:
        self._n_listed = n_listed
        self.ids: dict[Change, list[str]] = {change: [] for change in Change}

    def add(self, change: Change, document_id: str) -> None:
        """Keep the id of a change, and print it unless enough of its kind are."""
        ids = self.ids[change]
        ids.append(document_id)
        if self._n_listed is None or len(ids) <= self._n_listed:
            click.echo(f"{change.value} {escape(document_id)}")

    def summarize(self) -> None:
        """Print how many more of each kind there are."""
        for change, ids in self.ids.items():
            if self._n_listed and len(ids) > self._n_listed:
                click.echo(f"… and {len(ids) - self._n_listed:,} more {change.value}")


def print_report(
    report: BuildReport, *, n_documents: int, layers: str, settings: EncoderSettings
) -> None:
    """Print the counts of a run, and what the index holds now."""
    removed = f"; {report.n_removed:,} removed" if report.n_removed else ""
    click.echo(f"{report.n_read:,} read = {' + '.join(_outcomes(report))}{removed}")
    documents = counted(n_documents, "document")
    click.echo(f"{documents} in the index, {layers} of {escape(settings.model)}")


def describe_dry_run(report: BuildReport) -> str:
    """Write the counts of a dry run."""
    outcomes = ", ".join([*_outcomes(report), f"{report.n_removed:,} removed"])
    return f"{report.n_read:,} read; {outcomes}: dry run, nothing was changed"


def describe_refusal(report: BuildReport, text_field: str) -> str:
    """Say why none of the rows is a document."""
    if not report.n_blank:
        return "was rejected"
    blank = f"has a blank text in {text_field!r}"
    return f"was rejected or {blank}" if report.n_rejected else blank


def _outcomes(report: BuildReport) -> list[str]:
    """Return what became of the rows; blank and repeated ones only where there are any."""
    counts = {
        "new": report.n_new,
        "updated": report.n_updated,
        "unchanged": report.n_unchanged,
        "blank": report.n_blank,
        "repeated": report.n_repeated,
        "rejected": report.n_rejected,
    }
    for name in ("blank", "repeated"):
        if not counts[name]:
            del counts[name]
    return [f"{n:,} {name}" for name, n in counts.items()]
