"""``layerdex compact``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.options import index_argument, lock_timeout_option, verbosity_options
from layerdex.cli.output import counted, note, progress


@click.command("compact", short_help="Merge segments, free deleted space.")
@index_argument
@lock_timeout_option
@verbosity_options
def command(index: Path, lock_timeout_s: float) -> None:
    """Merge the small segments of INDEX and free what deleted and updated documents leave."""
    from layerdex.index import Index

    target = Index.open(index)
    with progress("Compacting") as on_progress:
        n_replaced = target.compact(lock_timeout_s=lock_timeout_s, on_progress=on_progress)
    info = target.info()
    note(
        f"{counted(n_replaced, 'segment')} merged; {counted(info.n_documents, 'document')} in "
        f"{counted(info.n_segments, 'segment')}, {info.size_bytes / 1e6:,.1f} MB"
    )
