"""``layerdex verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import path_argument, verbosity_options
from layerdex.cli.render.text import escape

if TYPE_CHECKING:
    from layerdex.index.checks import Problem


@click.command("verify", short_help="Check everything in an index.")
@path_argument
@verbosity_options
@pass_context
def command(context: Context, path: Path) -> None:
    """Check every checksum, every text and the catalog of INDEX; exit with 1 on damage.

    'layerdex repair' rebuilds damaged layer files. It also renews a torn checksum of the catalog,
    which is said but is no damage.
    """
    index = context.open_index(path, damaged=True)
    with context.progress("Verifying") as on_progress:
        problems = index.verify(on_progress=on_progress)
    for problem in problems:
        click.echo(escape(str(problem)))
    if problems:
        context.note(f"{len(problems)} wrong: {_advise(path, problems)}")
        click.get_current_context().exit(1)
    context.note("No problems found")


def _advise(path: Path, problems: Sequence[Problem]) -> str:
    """Return what to do about the problems."""
    of_index = [problem for problem in problems if problem.artifact is None]
    if not of_index:
        return "run " + " and ".join(f"'{problem.remedy}'" for problem in problems)
    if all(problem.is_repairable for problem in of_index):
        return f"run 'layerdex repair {path}'"
    return "restore the catalog"
