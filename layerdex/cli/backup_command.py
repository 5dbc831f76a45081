"""``layerdex backup``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.options import index_argument, verbosity_options
from layerdex.cli.output import counted, note, progress


@click.command("backup", short_help="Copy an index, also while it is written to.")
@index_argument
@click.argument("target", type=click.Path(path_type=Path))
@verbosity_options
def command(index: Path, target: Path) -> None:
    """Copy the newest commit of INDEX to TARGET, a new directory.

    The copy is an index like any other. Every layer file is checked on the way; a writer may
    be at work meanwhile.

    \b
    layerdex backup my-index backups/my-index-monday
    """
    from layerdex.index import Index

    with progress("Copying") as on_progress:
        n_documents = Index.open(index).backup(target, on_progress=on_progress)
    note(f"{counted(n_documents, 'document')} copied to {target}")
