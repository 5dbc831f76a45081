"""How good predicted labels are, label by label."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted, describe_labels, one_line

if TYPE_CHECKING:
    from layerdex.search.evaluation.report import ClassificationReport


def print_classification_report(report: ClassificationReport) -> None:
    """Print a row per label, the averages, and the pairs that are confused most often."""
    title = f"{counted(report.n, 'text')}, {counted(len(report.label_names), 'label')}"
    table = make_table("label", ">precision", ">recall", ">F1", ">support", title=title)
    columns = (report.precision, report.recall, report.f1, report.support)
    for name, *figures, support in zip(
        report.label_names, *(column.tolist() for column in columns), strict=True
    ):
        table.add_row(one_line(name, 40), *(f"{x:.4f}" for x in figures), f"{support:,}")
    table.add_section()
    table.add_row("accuracy", "", "", f"{report.accuracy:.4f}", f"{report.n:,}")
    for name, mean in (("macro average", report.macro), ("weighted average", report.weighted)):
        means = (mean.precision, mean.recall, mean.f1)
        table.add_row(name, *(f"{x:.4f}" for x in means), f"{report.n:,}")
    print_table(table)
    if report.confused:
        confused = make_table("true label", "predicted", ">texts", title="Most often confused")
        for pair in report.confused:
            confused.add_row(one_line(pair.true, 40), one_line(pair.predicted, 40), f"{pair.n:,}")
        print_table(confused)


def note_report(
    report: ClassificationReport, *, is_of_head: bool, note: Callable[[str], None]
) -> None:
    """Say what the figures count, beyond right and wrong labels."""
    if n := report.n_abstained:
        note(
            f"{counted(n, 'text')} without a prediction (--min-confidence): counted as wrong in "
            "accuracy and recall, and in no label's precision"
        )
    if n := report.n_unlabelled:
        note(f"{counted(n, 'text')} without a true label left out")
    if unknown := report.unknown_labels:
        reason, advice = "no document that votes has it", ""
        if is_of_head:
            reason = "the head does not know it"
            advice = "; 'layerdex probe --save' fits it to the labels of today"
        note(
            f"{counted(len(unknown), 'label')} of the file cannot be predicted, as {reason}: "
            f"{describe_labels(unknown)}{advice}"
        )
