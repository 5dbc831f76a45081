"""``layerdex repair``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.options import (
    encoder_options,
    index_argument,
    lock_timeout_option,
    verbosity_options,
)
from layerdex.cli.output import counted, note, progress


@click.command("repair", short_help="Rebuild damaged layer files.")
@index_argument
@click.option("--dry-run", is_flag=True, help="Only say what would be rebuilt.")
@encoder_options
@lock_timeout_option
@verbosity_options
def command(
    index: Path,
    dry_run: bool,
    model: str | None,
    adapter: str | None,
    engine: str,
    device: str,
    dtype: str,
    lock_timeout_s: float,
) -> None:
    """Rebuild damaged or missing layer files of INDEX by encoding only their texts again.

    The texts in the catalog are the last truth; a damaged catalog must come from a backup. A
    damaged head or transform is named and left to its own command, and the exit code is then 1.
    """
    from layerdex.index import Index

    target = Index.open(
        index, model=model, adapter=adapter, engine=engine, device=device, dtype=dtype, damaged=True
    )
    with progress("Verifying") as on_progress:
        problems = target.verify(on_progress=on_progress)
    for problem in problems:
        note(str(problem))
    if dry_run or not problems:
        note(f"{counted(len(problems), 'problem')} found")
        return
    with progress("Repairing") as on_progress:
        n_files = target.repair(problems, lock_timeout_s=lock_timeout_s, on_progress=on_progress)
    note(f"{counted(n_files, 'layer file')} rebuilt")
    if any(problem.segment is None and problem.artifact is None for problem in problems):
        note("The catalog's checksum is renewed: all of its rows are sound")
    if any(problem.artifact is not None for problem in problems):  # its own command repairs it
        click.get_current_context().exit(1)
