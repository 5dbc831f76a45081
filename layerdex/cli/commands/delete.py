"""``layerdex delete``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.cli.conflicts import Excludes, Requires, Rule, check_rules
from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import (
    FORMAT_OPTIONS,
    IdsOptions,
    ids_options,
    json_option,
    lock_timeout_option,
    max_removed_option,
    path_argument,
    verbosity_options,
    where_option,
)
from layerdex.cli.removals import describe_excess, removal_limit
from layerdex.cli.render.text import counted
from layerdex.errors import DocumentNotFoundError

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.search.filters import Filter

_RULES: tuple[Rule, ...] = (
    Excludes("where", ("ids", "ids_file", "missing_ok")),
    *(Requires(option, "ids_file") for option in ("id_field", *FORMAT_OPTIONS)),
)


@click.command("delete", short_help="Delete documents by id or by condition.")
@path_argument
@click.argument("ids", nargs=-1, metavar="[ID]...")
@ids_options
@where_option
@click.option("--missing-ok", is_flag=True, help="Pass over ids that no document has.")
@max_removed_option
@click.option(
    "--purge",
    is_flag=True,
    help="Remove every byte of them, and of what was deleted or replaced before, from INDEX.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only say what would be deleted; with --json also the ids."
)
@lock_timeout_option
@json_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    ids: tuple[str, ...],
    source: IdsOptions,
    where: tuple[str, ...] | Filter,
    missing_ok: bool,
    max_removed: int | float | None,
    purge: bool,
    dry_run: bool,
    lock_timeout_s: float,
) -> None:
    """Delete documents from INDEX, all in one commit: by ID, those of --ids FILE, or by --where.

    Nothing is deleted if no document has one of the ids. With --ids or --where, more than a tenth
    of the documents are deleted only with --max-removed, or a yes on a terminal.

    Their texts and vectors stay in the files of INDEX until 'layerdex compact'. With --purge they
    are gone from all of them when the command ends, for which it waits until no other process is
    asking INDEX, as long as --lock-timeout says. --purge alone purges what was deleted and replaced
    before.

    \b
    layerdex delete my-index a17 a18 --dry-run
    layerdex delete my-index --where 'customer=4711' --purge
    layerdex delete my-index --ids gone.txt --max-removed 25%
    """
    from layerdex.index.checks import check_catalog, source_names

    check_rules(_RULES)
    if not (ids or where or source.ids_file is not None or purge):
        raise click.UsageError("give at least one ID, --ids FILE or --where CONDITION")
    index = context.open_index(path, damaged=True)
    check_catalog(index)
    every_id = [*ids, *source.read(source_names(index)["id"])]
    is_listed = not where and source.ids_file is None
    if dry_run:
        # Ids that are written out are not guarded: each was meant.
        allowed = 1.0 if is_listed and max_removed is None else max_removed
        _preview(
            context,
            index,
            every_id,
            where,
            missing_ok=missing_ok,
            max_removed=allowed,
            purge=purge,
        )
        return
    with contextlib.ExitStack() as shown:
        on_progress = shown.enter_context(context.progress("Purging")) if purge else None
        limit = removal_limit(
            context,
            max_removed,
            question="Delete {:,} of {:,} documents?",
            before_asking=shown.close,
            is_input_read=source.ids_file == "-",
        )
        try:
            n_deleted = index.delete(
                *every_id,
                where=where,
                max_removed=max_removed if is_listed else limit,
                missing_ok=missing_ok,
                purge=purge,
                lock_timeout_s=lock_timeout_s,
                on_progress=on_progress,
            )
        except DocumentNotFoundError as error:
            if not purge:
                raise
            advice = f"'layerdex delete {path} --purge' purges what is deleted"
            raise DocumentNotFoundError(f"{error}; {advice}") from None
    n_missing = 0 if where else len({*every_id}) - n_deleted
    _print_deletion(context, index, n_deleted, n_missing, is_purged=purge)


def _preview(
    context: Context,
    index: Index,
    ids: Sequence[str],
    where: tuple[str, ...] | Filter,
    *,
    missing_ok: bool,
    max_removed: int | float | None,
    purge: bool,
) -> None:
    from layerdex.index.checks import ids_to_delete, vector_bytes
    from layerdex.index.json import deletion_to_json

    found = ids_to_delete(index, ids, where=where, missing_ok=missing_ok)
    n_missing = 0 if where else len({*ids}) - len(found)
    info = index.info()
    n_documents = info.n_documents
    freed = f"would then free {vector_bytes(index, len(found)):,} bytes of vectors"
    then = f"'layerdex compact' {freed}"
    if purge:
        then = f"they would be purged, with {counted(info.n_dead, 'dead version')} that are there"
    context.print(
        table=lambda: context.note(
            f"{len(found):,} would be deleted{_describe_missing(n_missing)}; {then}"
        ),
        document=lambda: deletion_to_json(
            len(found), n_missing=n_missing, n_documents=n_documents - len(found), ids=found
        ),
    )
    if excess := describe_excess(len(found), n_documents, max_removed):
        context.note(excess)


def _print_deletion(
    context: Context, index: Index, n_deleted: int, n_missing: int, *, is_purged: bool
) -> None:
    from layerdex.index.json import deletion_to_json

    n_left = len(index)
    purged = " and purged" if is_purged else ""

    def table() -> None:
        context.note(
            f"{n_deleted:,} deleted{_describe_missing(n_missing)}{purged}, {n_left:,} left"
        )
        if n_deleted and not is_purged:
            context.note(
                "Their texts and vectors stay in the files until 'layerdex compact'; "
                "'layerdex delete INDEX --purge' removes every byte"
            )

    context.print(
        table=table,
        document=lambda: deletion_to_json(n_deleted, n_missing=n_missing, n_documents=n_left),
    )


def _describe_missing(n_missing: int) -> str:
    return f", {counted(n_missing, 'id')} not in the index" if n_missing else ""
