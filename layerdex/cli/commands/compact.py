"""``layerdex compact``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import lock_timeout_option, path_argument, verbosity_options
from layerdex.cli.render.text import counted


@click.command("compact", short_help="Merge segments and free space.")
@path_argument
@click.option("--dry-run", is_flag=True, help="Only say what would be merged and freed.")
@lock_timeout_option
@verbosity_options
@pass_context
def command(context: Context, path: Path, dry_run: bool, lock_timeout_s: float) -> None:
    """Merge the small segments of INDEX, and free the space of deleted and updated documents.

    Nothing of their texts, labels and metadata is left in the index then, unless another process
    is reading it: 'layerdex delete INDEX --purge' waits for that.
    'layerdex index' merges small segments at the end of a run; this also merges larger ones.

    \b
    layerdex compact my-index --dry-run
    """
    index = context.open_index(path)
    if dry_run:
        plan = index.plan_compaction()
        context.note(
            f"{counted(plan.n_merged, 'segment')} would be merged, leaving "
            f"{plan.n_segments_after:,}; {counted(plan.n_dead, 'dead version')} and "
            f"{counted(plan.n_bytes_freed, 'byte')} of layer files would be removed"
        )
        return
    with context.progress("Compacting") as on_progress:
        n_replaced = index.compact(lock_timeout_s=lock_timeout_s, on_progress=on_progress)
    info = index.info()
    context.note(
        f"{counted(n_replaced, 'segment')} merged; {counted(info.n_documents, 'document')} in "
        f"{counted(info.n_segments, 'segment')}, {info.size_bytes / 1e6:,.1f} MB"
    )
