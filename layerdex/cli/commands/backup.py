"""``layerdex backup``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import PathType, path_argument, verbosity_options
from layerdex.cli.render.text import counted


@click.command("backup", short_help="Copy an index, also while it is written to.")
@path_argument
@click.argument("target", type=PathType())
@verbosity_options
@pass_context
def command(context: Context, path: Path, target: Path) -> None:
    """Copy the newest commit of INDEX to TARGET, a new directory.

    The copy is an index like any other. Every layer file is checked while it is copied. Other
    processes may write to INDEX meanwhile.

    \b
    layerdex backup my-index backups/my-index-monday
    """
    index = context.open_index(path)
    with context.progress("Copying") as on_progress:
        n_documents = index.backup(target, on_progress=on_progress)
    context.note(f"{counted(n_documents, 'document')} copied to {target}")
