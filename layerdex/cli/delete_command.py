"""``layerdex delete``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.options import index_argument, lock_timeout_option, verbosity_options
from layerdex.cli.output import note


@click.command("delete", short_help="Delete documents by id.")
@index_argument
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@lock_timeout_option
@verbosity_options
def command(index: Path, ids: tuple[str, ...], dry_run: bool, lock_timeout_s: float) -> None:
    """Delete documents from INDEX by id: all of them, or none if one is missing.

    Their space is freed by 'layerdex compact'.

    \b
    layerdex delete my-index a17 a18 --dry-run
    """
    from layerdex.index import Index

    target = Index.open(index, damaged=True)
    target.store.check_catalog()
    if dry_run:
        n_documents, store = target.delete(*ids, dry_run=True), target.store
        n_bytes = n_documents * len(store.layers) * store.settings.width * store.codec.code_bytes
        note(
            f"{n_documents:,} would be deleted, and {n_bytes:,} bytes of vectors then be freed by "
            "'layerdex compact'"
        )
        return
    n_deleted = target.delete(*ids, lock_timeout_s=lock_timeout_s)
    note(f"{n_deleted:,} deleted, {len(target):,} left")
