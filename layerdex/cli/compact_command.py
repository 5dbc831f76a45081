"""``layerdex compact``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.options import index_argument, lock_timeout_option, verbosity_options
from layerdex.cli.output import note, progress


@click.command("compact", short_help="Merge segments, free deleted space.")
@index_argument
@lock_timeout_option
@verbosity_options
def command(index: Path, lock_timeout_s: float) -> None:
    """Merge the small segments of INDEX and free the space of deleted documents."""
    from layerdex.index import Index

    target = Index.open(index)
    with progress("Compacting") as on_progress:
        n_replaced = target.compact(lock_timeout_s=lock_timeout_s, on_progress=on_progress)
    info = target.info()
    note(
        f"{n_replaced:,} segments merged; {info.n_documents:,} documents in "
        f"{info.n_segments:,} segments, {info.size_bytes / 1e6:,.1f} MB"
    )
