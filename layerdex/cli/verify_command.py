"""``layerdex verify``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.options import index_argument, verbosity_options
from layerdex.cli.output import note, progress


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
        can_mend = all(problem.is_mendable for problem in problems)
        advice = f"run 'layerdex repair {index}'" if can_mend else "restore the catalog"
        note(f"{len(problems)} wrong: {advice}")
        click.get_current_context().exit(1)
    note("No problems found")
