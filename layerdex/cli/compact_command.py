"""``layerdex compact``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.options import index_argument, lock_timeout_option, verbosity_options
from layerdex.cli.output import counted, note, progress


@click.command("compact", short_help="Merge segments, free deleted space.")
@index_argument
@click.option("--dry-run", is_flag=True, help="Only say what would be merged and freed.")
@lock_timeout_option
@verbosity_options
def command(index: Path, dry_run: bool, lock_timeout_s: float) -> None:
    """Merge the small segments of INDEX and free what deleted and updated documents leave.

    'layerdex index' merges small segments by itself; this also merges larger ones.

    \b
    layerdex compact my-index --dry-run
    """
    from layerdex.index import Index

    target = Index.open(index)
    if dry_run:
        plan = target.plan_compaction()
        note(
            f"{counted(plan.n_merged, 'segment')} would be merged, leaving "
            f"{plan.n_segments_after:,}; {counted(plan.n_dead, 'dead version')} would go, and "
            f"{counted(plan.n_bytes_freed, 'byte')} of layer files"
        )
        return
    with progress("Compacting") as on_progress:
        n_replaced = target.compact(lock_timeout_s=lock_timeout_s, on_progress=on_progress)
    info = target.info()
    note(
        f"{counted(n_replaced, 'segment')} merged; {counted(info.n_documents, 'document')} in "
        f"{counted(info.n_segments, 'segment')}, {info.size_bytes / 1e6:,.1f} MB"
    )
