"""``layerdex restore``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.conflicts import is_given
from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import PathType, lock_timeout_option, verbosity_options
from layerdex.cli.render.text import counted
from layerdex.errors import IndexExistsError


@click.command("restore", short_help="Put a backup in the place of an index.")
@click.argument("backup", type=PathType())
@click.argument("target", metavar="INDEX", type=PathType())
@click.option(
    "--force",
    is_flag=True,
    expose_value=False,
    help="Replace INDEX if it exists: it is removed when the copy is in its place.",
)
@lock_timeout_option
@verbosity_options
@pass_context
def command(context: Context, backup: Path, target: Path, lock_timeout_s: float) -> None:
    """Copy BACKUP, checked, and put the copy in the place of INDEX in one step.

    Use it instead of cp or rsync: single files copied by hand can damage the index. INDEX must hold
    nothing else, so move other files in it away first. BACKUP is an index that 'layerdex backup'
    made, or any other; it stays. The copy is made beside INDEX, so there must be room for both, and
    gets the group and mode of the old one. If the process is killed, INDEX is either of the two,
    whole; a folder .INDEX.* beside it can then be removed. Only where the file system cannot
    exchange two names can INDEX be missing: rename .INDEX.*.old back to it.

    \b
    layerdex restore backups/my-index-monday my-index --force
    """
    from layerdex.index.checks import is_index

    if is_index(target) and not is_given("force"):
        raise IndexExistsError(
            f"{target} holds an index: restore to another directory, or replace it with --force"
        )
    index = context.open_index(backup)
    with context.progress("Copying") as on_progress:
        n_documents = index.restore(target, lock_timeout_s=lock_timeout_s, on_progress=on_progress)
    context.note(f"{counted(n_documents, 'document')} restored to {target}")
