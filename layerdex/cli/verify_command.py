"""``layerdex verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.cli.options import index_argument, verbosity_options
from layerdex.cli.output import note, progress

if TYPE_CHECKING:
    from layerdex.storage.maintenance.verify import Problem


@click.command("verify", short_help="Check everything in an index.")
@index_argument
@verbosity_options
def command(index: Path) -> None:
    """Check all of INDEX: every checksum, every text, the catalog; exit 1 if anything is wrong.

    'layerdex repair' rebuilds what is damaged.
    """
    from layerdex.index import Index

    with progress("Verifying") as on_progress:
        problems = Index.open(index, damaged=True).verify(on_progress=on_progress)
    for problem in problems:
        click.echo(str(problem))
    if problems:
        note(f"{len(problems)} wrong: {_advice(index, problems)}")
        click.get_current_context().exit(1)
    note("No problems found")


def _advice(index: Path, problems: Sequence[Problem]) -> str:
    others = [problem for problem in problems if problem.artifact is None]
    if not others:
        remedies = [one.artifact.remedy(str(index)) for one in problems if one.artifact is not None]
        return "run " + " and ".join(f"'{one}'" for one in remedies)
    if all(problem.is_repairable for problem in others):
        return f"run 'layerdex repair {index}'"
    return "restore the catalog"
