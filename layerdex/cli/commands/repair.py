"""``layerdex repair``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import (
    lock_timeout_option,
    path_argument,
    stored_encoder_options,
    verbosity_options,
)
from layerdex.cli.render.text import counted


@click.command("repair", short_help="Rebuild damaged layer files.")
@path_argument
@click.option("--dry-run", is_flag=True, help="Only say what would be rebuilt.")
@stored_encoder_options
@lock_timeout_option
@verbosity_options
@pass_context
def command(context: Context, path: Path, dry_run: bool, lock_timeout_s: float) -> None:
    """Rebuild damaged or missing layer files of INDEX, encoding only their texts again.

    A damaged catalog cannot be rebuilt: restore it from a backup. A damaged head, transform or
    approximate index is reported, and the exit code is 1: run the command that made it again.

    New files are written beside the old ones: the disk must have room for one of a segment's files,
    and with room for all of them its texts are encoded only once.
    """
    from layerdex.index.checks import has_torn_seal

    index = context.open_index(path, damaged=True)
    with context.progress("Verifying") as on_progress:
        problems = index.verify(on_progress=on_progress)
    for problem in problems:
        context.note(str(problem))
    is_torn = has_torn_seal(index)
    if dry_run or not (problems or is_torn):
        context.note(f"{counted(len(problems), 'problem')} found")
        return
    with context.progress("Repairing") as on_progress:
        n_files = index.repair(problems, lock_timeout_s=lock_timeout_s, on_progress=on_progress)
    context.note(f"{counted(n_files, 'layer file')} rebuilt")
    if is_torn or any(p.segment is None and p.artifact is None for p in problems):
        context.note("The catalog's checksum was renewed: all of its rows are correct")
    if any(problem.artifact is not None for problem in problems):
        click.get_current_context().exit(1)
