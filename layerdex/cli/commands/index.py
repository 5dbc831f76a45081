"""``layerdex index``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.choices import OnBlank, OnError, StoredPrecision
from layerdex.cli.conflicts import Requires, check_only, check_rules
from layerdex.cli.context import Context, OutputForm, pass_context
from layerdex.cli.files import check_outputs
from layerdex.cli.options import (
    DateFormatType,
    EnumChoice,
    PathType,
    SourceOptions,
    by_field,
    encoder_options,
    json_option,
    lock_timeout_option,
    max_removed_option,
    path_argument,
    runtime_options,
    source_options,
    verbosity_options,
)
from layerdex.cli.rejects import check_rejects_path, open_rejects
from layerdex.cli.removals import describe_excess, removal_limit
from layerdex.cli.render.changes import (
    N_LISTED,
    Changes,
    describe_dry_run,
    describe_refusal,
    print_report,
)
from layerdex.cli.render.text import counted, describe_unknown, one_line
from layerdex.errors import (
    IndexExistsError,
    IndexMismatchError,
    LayerdexError,
    LockedIndexError,
    RowError,
)

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.index.checks import BuildReport
    from layerdex.options import EncoderOptions

_N_GROUPS_SHOWN = 3
_N_FIELDS_SHOWN = 10
_RULES = (Requires("max_removed", "sync"),)
_USED_TO_DECLARE = (
    "path",
    "text_field",
    "id_field",
    "label_field",
    "metadata_fields",
    "date_formats",
    "lock_timeout_s",
    "quiet",
    "verbose",
)


@click.command("index", short_help="Create or extend an index.")
@path_argument
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--layers", help="Layers to store: all, -1, 4 or 0,4-6. [default: all]")
@encoder_options
@click.option(
    "--force-int8",
    is_flag=True,
    help="Take --dtype int8 even if its vectors are too far from those in float32.",
)
@click.option(
    "--query-template",
    help="Prompt around the text of a search, if it differs, such as 'query: {text}'.",
)
@click.option(
    "--precision",
    type=EnumChoice(StoredPrecision),
    help="Precision of stored vectors. [default: float16]",
)
@source_options
@click.option(
    "--date-format",
    "date_formats",
    type=DateFormatType(),
    metavar="FIELD=FORMAT",
    multiple=True,
    help="Form of the dates in a field, such as 'Datum=%d.%m.%Y'; stored, repeatable.",
)
@click.option(
    "--mix-ids",
    is_flag=True,
    help="Add documents whose ids are made from their texts to those with ids of their own, or the "
    "reverse.",
)
@click.option(
    "--on-error",
    type=EnumChoice(OnError),
    default=OnError.ABORT.value,
    show_default=True,
    help="Stop at a bad row, or skip and count it.",
)
@click.option(
    "--rejects",
    type=PathType(dir_okay=False),
    help="Write the place of each skipped row, and the reason, to this file (jsonl).",
)
@click.option(
    "--force",
    is_flag=True,
    expose_value=False,
    help="Overwrite the --rejects file; without it, one that is not empty is an error.",
)
@click.option(
    "--on-blank",
    type=EnumChoice(OnBlank),
    help="Skip and count rows without a text, or take them as bad rows. [default: skip in tables]",
)
@click.option("--sync", is_flag=True, help="Remove documents that are in no SOURCE.")
@max_removed_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only list what would be new, updated and removed, the first of each (all with --json or "
    "-v); INDEX must exist.",
)
@click.option(
    "--auto-compact/--no-auto-compact",
    default=True,
    help="Merge small segments after the run. [default: yes]",
)
@runtime_options
@lock_timeout_option
@json_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    sources: tuple[str, ...],
    layers: str | None,
    encoder: EncoderOptions,
    force_int8: bool,
    query_template: str | None,
    precision: StoredPrecision | None,
    source: SourceOptions,
    date_formats: tuple[tuple[str, str], ...],
    mix_ids: bool,
    on_error: OnError,
    rejects: Path | None,
    on_blank: OnBlank | None,
    sync: bool,
    max_removed: int | float | None,
    dry_run: bool,
    auto_compact: bool,
    lock_timeout_s: float,
) -> None:
    """Create INDEX or extend it with the documents of each SOURCE.

    A SOURCE is a jsonl, json, csv, tsv, parquet, xlsx or txt file (one document per line), a folder
    of text files, or - for standard input. Unchanged documents are skipped; a row whose id already
    exists updates that document. Each window of documents is committed when it is done: after an
    interruption, run the same command again.

    With --sync, documents that are in none of the sources are removed once all sources have been
    read to the end: more than a tenth of INDEX only with --max-removed, or a yes on a terminal. A
    skipped row keeps its document. If its id cannot be read, or if the sources hold no document,
    nothing is removed. A file of a folder that cannot be read is a bad row too.

    In csv, tsv, xlsx and parquet, a row whose text is blank is skipped and counted. A row that
    repeats an earlier one with the same id is counted too; with other content it is a bad row.

    The first run stores the options from --layers to --precision in INDEX. It also stores the
    names of fields, which are the defaults of later runs; a run that names others uses those, once.
    Without SOURCE, the field options and --date-format are stored as the new defaults, and no other
    option is taken.

    \b
    layerdex index my-index reviews.csv --text-field body --label-field stars
    layerdex index my-index questions.txt --template 'A question: {text}'
    layerdex index e5 a.txt --template 'd: {text}' --query-template 'q: {text}'
    layerdex index my-index more.jsonl --on-error skip --rejects bad.jsonl
    zcat old.jsonl.gz | layerdex index my-index -
    layerdex index my-index today.jsonl --sync --dry-run
    layerdex index my-index --date-format 'Datum=%d.%m.%Y'
    """
    from layerdex.index.checks import source_names
    from layerdex.index.files import check_sources

    names: dict[str, Any] = {**source.names, "date_formats": by_field(date_formats)}
    if not sources:
        _declare(context, path, names, lock_timeout_s)
        return
    if rejects is not None and on_error is not OnError.SKIP:
        raise click.UsageError("--rejects requires --on-error skip")
    check_rules(_RULES)
    dialect = source.dialect
    check_sources(sources, format=source.format)
    check_outputs(path, rejects)
    check_rejects_path(rejects, sources)
    had_folder = path.exists()
    index, is_new = _open_or_create(
        context,
        path,
        source.with_calibration(encoder),
        layers=layers,
        precision=precision,
        query_template=query_template,
        force_int8=force_int8,
        must_exist=dry_run,
    )
    changes = Changes(n_listed=_n_listed(context))
    try:
        with (
            open_rejects(rejects, note=context.note) as rejected,
            contextlib.ExitStack() as shown,
        ):
            on_rows, on_bytes = shown.enter_context(context.reading_progress("Indexing"))
            limit = removal_limit(
                context,
                max_removed,
                question="{:,} of {:,} documents are in no SOURCE. Remove them?",
                before_asking=shown.close,
                is_input_read="-" in sources,
            )
            report = index.add(
                *sources,
                **names,
                mix_ids=mix_ids,
                format=source.format,
                dialect=dialect,
                on_error=on_error,
                on_blank=on_blank,
                on_reject=rejected.add,
                on_change=changes.add if dry_run else None,
                on_progress=on_rows,
                on_bytes=on_bytes,
                sync=sync,
                max_removed=limit,
                dry_run=dry_run,
                auto_compact=auto_compact,
                lock_timeout_s=lock_timeout_s,
            )
    except BaseException as error:
        if is_new and not isinstance(error, LockedIndexError):
            _discard_if_unused(index, had_folder=had_folder)
        _tell_how_to_go_on(error, index)
        raise
    rejected.summarize()
    if dry_run:
        excess = describe_excess(report.n_removed, report.n_before, max_removed)
        _print_dry_run(context, report, changes, excess)
        return
    is_refused = 0 < report.n_read == report.n_rejected + report.n_blank
    if is_new and not is_refused:
        context.note(f"Created {path}")
        if (made := index.settings.quantization) is not None:
            context.note(f"Its vectors are in int8: {made.describe()}")
    _print_report(context, report, index, path, is_new=is_new)
    if is_refused:
        text_field = source.text_field or source_names(index)["text"]
        if is_new:
            _discard_if_unused(index, had_folder=had_folder)
        outcome = "was not created" if is_new else "is unchanged"
        why = describe_refusal(report, text_field)
        raise RowError(f"every row that was read {why}: {path} {outcome}")


def _declare(context: Context, path: Path, names: dict[str, Any], lock_timeout_s: float) -> None:
    """Store names of fields and forms of dates, without any documents."""
    if not any(names.values()):
        raise click.UsageError("give at least one SOURCE, or - for standard input")
    check_only(
        _USED_TO_DECLARE,
        reason="requires a SOURCE: without one, only names of fields and forms of dates are stored",
    )
    context.open_index(path).declare(**names, lock_timeout_s=lock_timeout_s)
    context.note(f"Stored the defaults of later runs: see 'layerdex info {path}'")


def _open_or_create(
    context: Context,
    path: Path,
    encoder: EncoderOptions,
    *,
    layers: str | None,
    precision: StoredPrecision | None,
    query_template: str | None,
    force_int8: bool,
    must_exist: bool,
) -> tuple[Index, bool]:
    """Return the index, and whether it is new.

    Raises `IndexMismatchError` for an option that differs from what the index stored, and for
    ``force_int8`` if the index is not in int8.
    """
    from layerdex.index.checks import check_settings, find_folder, is_index

    stored: dict[str, Any] = {
        "layers": layers,
        "precision": precision,
        "query_template": query_template,
    }
    if not must_exist and not is_index(path):
        try:
            settings = {name: value for name, value in stored.items() if value is not None}
            return context.create_index(path, encoder, **settings, force_int8=force_int8), True
        except IndexExistsError:
            if not is_index(path):
                raise
            # Another first run was faster; this one extends what that one made.
    context.model_folder = find_folder(encoder.model)
    context.adapter_folder = encoder.adapter
    if encoder.calibration is not None:
        context.calibration_file = encoder.calibration.path
    index = context.open_index(path)
    # In int8 it may be what an interrupted run with the same options has made.
    if force_int8 and index.settings.quantization is None:
        raise IndexMismatchError(
            "this index was not made in int8, and --force-int8 is for a new one: leave the option "
            "out, or make a new index"
        )
    check_settings(index, encoder, **stored)
    return index, False


def _tell_how_to_go_on(error: BaseException, index: Index) -> None:
    """Add to an interruption how many documents are in the index, if it is still there."""
    if isinstance(error, KeyboardInterrupt):
        error.args = (
            "nothing was committed yet: the first commit takes some seconds, or "
            f"{index.settings.window:,} documents; run the same command again",
        )
        with contextlib.suppress(LayerdexError, OSError):
            documents, are = counted(len(index), "document"), "is" if len(index) == 1 else "are"
            again = "run the same command again to go on"
            error.args = (f"{documents} {are} in the index; {again}",)


def _discard_if_unused(index: Index, *, had_folder: bool) -> None:
    """Remove a new, empty index, so that a second run can use other options."""
    from layerdex.index.checks import discard_if_unused

    with contextlib.suppress(LayerdexError, OSError):
        discard_if_unused(index)
        if not had_folder:
            index.path.rmdir()


def _n_listed(context: Context) -> int | None:
    """Return how many changes of each kind are listed, None for all."""
    if context.form is OutputForm.JSON:
        return 0
    return None if context.is_verbose else N_LISTED


def _print_dry_run(context: Context, report: BuildReport, changes: Changes, excess: str) -> None:
    from layerdex.index.json import dry_run_to_json

    def table() -> None:
        changes.summarize()
        context.note(describe_dry_run(report))

    context.print(
        table=table,
        document=lambda: dry_run_to_json(report, changes.ids),
    )
    if excess:
        context.note(excess)


def _print_report(
    context: Context, report: BuildReport, index: Index, path: Path, *, is_new: bool
) -> None:
    from layerdex.index.json import report_to_json
    from layerdex.layers import name_layers

    n_documents, settings = len(index), index.settings
    layers = name_layers(index.layers)
    context.print(
        table=lambda: print_report(
            report, n_documents=n_documents, layers=layers, settings=settings
        ),
        document=lambda: report_to_json(report, n_documents=n_documents),
    )
    if context.form is not OutputForm.TABLE:
        return
    if report.n_new or report.n_updated:
        _note_similar_labels(context, index)
    if report.n_truncated:
        context.note(
            f"{counted(report.n_truncated, 'text')} longer than "
            f"{counted(settings.max_length, 'token')}, cut: "
            f"see 'layerdex info {path} --truncated'"
        )
    if report.n_unknown:
        unknown = describe_unknown(report.n_unknown, report.n_unreadable)
        context.note(f"{unknown}: see 'layerdex info {path} --unknown'")
    if is_new:
        _note_unnamed_fields(context, index)
        _note_language(context, report, index)


def _note_unnamed_fields(context: Context, index: Index) -> None:
    """Note that other fields of a table may be ids and labels: ids are hard to change later."""
    from layerdex.index.checks import find_unnamed_fields

    names = find_unnamed_fields(index)
    if names:
        n_more = len(names) - _N_FIELDS_SHOWN
        more = f" and {n_more:,} more" if n_more > 0 else ""
        context.note(
            "Ids are made from the texts, and there are no labels: name their fields with "
            "--id-field and --label-field in a first run, if there are any "
            f"(other fields: {', '.join(map(one_line, names[:_N_FIELDS_SHOWN]))}{more})"
        )


def _note_language(context: Context, report: BuildReport, index: Index) -> None:
    from layerdex.index.languages import MULTILINGUAL_MODEL, find_foreign_share

    share = find_foreign_share(index, report)
    if share is not None:
        context.note(
            f"{index.settings.model} was trained on English, and these texts do not look English "
            f"({share:.0%} of their words are common English ones): for another language make "
            f"another index, with --model {MULTILINGUAL_MODEL} for example"
        )


def _note_similar_labels(context: Context, index: Index) -> None:
    from layerdex.index.checks import similar_labels
    from layerdex.index.similar_labels import quote_label

    groups = [", ".join(map(quote_label, group)) for group in similar_labels(index)]
    if groups:
        n_more = len(groups) - _N_GROUPS_SHOWN
        more = f"; and {n_more:,} more" if n_more > 0 else ""
        context.note(
            f"Labels that differ only in blanks, Unicode form or a trailing .0 are different "
            f"labels: {'; '.join(groups[:_N_GROUPS_SHOWN])}{more}"
        )
