"""What a run of ``index`` did to documents, or what a dry run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerdex.choices import Change
from layerdex.cli.render.text import counted, escape

if TYPE_CHECKING:
    from layerdex.index.checks import BuildReport
    from layerdex.records import EncoderSettings


class Changes:
    """Prints changes as they are found, or collects their ids for one JSON document."""

    def __init__(self, *, is_collecting: bool) -> None:
        self._is_collecting = is_collecting
        self.ids: dict[Change, list[str]] = {change: [] for change in Change}

    def add(self, change: Change, document_id: str) -> None:
        """Print a change, or keep its id."""
        if self._is_collecting:
            self.ids[change].append(document_id)
        else:
            click.echo(f"{change.value} {escape(document_id)}")


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


def describe_refusal(report: BuildReport, text_field: str | None) -> str:
    """Say why none of the rows is a document; ``text_field`` is None if none was asked for."""
    if not report.n_blank:
        return "was rejected"
    blank = "has a blank text" + ("" if text_field is None else f" in {text_field!r}")
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
