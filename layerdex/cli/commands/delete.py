"""``layerdex delete``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import lock_timeout_option, path_argument, verbosity_options


@click.command("delete", short_help="Delete documents by id.")
@path_argument
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@lock_timeout_option
@verbosity_options
@pass_context
def command(
    context: Context, path: Path, ids: tuple[str, ...], dry_run: bool, lock_timeout_s: float
) -> None:
    """Delete documents from INDEX by id: all of them, or none if one is missing.

    'layerdex compact' frees their space.

    \b
    layerdex delete my-index a17 a18 --dry-run
    """
    from layerdex.index.checks import check_catalog, vector_bytes

    index = context.open_index(path, damaged=True)
    check_catalog(index)
    if dry_run:
        n_documents = index.delete(*ids, dry_run=True)
        context.note(
            f"{n_documents:,} would be deleted; 'layerdex compact' would then free "
            f"{vector_bytes(index, n_documents):,} bytes of vectors"
        )
        return
    n_deleted = index.delete(*ids, lock_timeout_s=lock_timeout_s)
    context.note(f"{n_deleted:,} deleted, {len(index):,} left")
