"""``layerdex verify``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.options import index_argument, verbosity_options
from layerdex.cli.output import note, progress


@click.command("verify")
@index_argument
@verbosity_options
def command(index: Path) -> None:
    """Check all of INDEX: every checksum, every text, the catalog; exit 1 if anything is wrong."""
    from layerdex.index import Index

    with progress("Verifying") as on_progress:
        problems = Index.open(index, damaged=True).verify(on_progress=on_progress)
    for problem in problems:
        click.echo(str(problem))
    if problems:
        note(f"{len(problems)} problems: run 'layerdex repair {index}'")
        click.get_current_context().exit(1)
    note("No problems found")
