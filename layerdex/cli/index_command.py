"""``layerdex index``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from layerdex.cli.changes import Changes
from layerdex.cli.opening import discard_if_unused, open_or_create
from layerdex.cli.options import (
    device_options,
    field_options,
    index_argument,
    json_option,
    lock_timeout_option,
    make_fields,
    verbosity_options,
)
from layerdex.cli.output import (
    check_outputs,
    counted,
    note,
    print_json,
    reading_progress,
)
from layerdex.cli.rejects import check_rejects_path, open_rejects
from layerdex.errors import LockedIndexError, RowError


@click.command("index", short_help="Create or extend an index.")
@index_argument
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--model", help="minilm, a local folder or a hub id. [default: minilm]")
@click.option("--revision", help="Revision of a hub model.")
@click.option("--adapter", metavar="FOLDER", help="Adapter that 'tune' made for the model.")
@click.option("--layers", help="Layers to keep: all, -1, 4 or 0,4-6. [default: all]")
@click.option(
    "--pooling",
    type=click.Choice(["mean", "cls", "max", "mask"]),
    help="Token states to one vector. [default: the model's own, else mean]",
)
@click.option("--template", help="Prompt around each text, such as 'A question: {text}'.")
@click.option(
    "--query-template",
    help="Prompt around a search's text, if another, such as 'query: {text}'.",
)
@click.option(
    "--max-length",
    type=int,
    help="Tokens that a text may have. [default: what the model's sentence-transformers file "
    "says, else at most 512]",
)
@click.option(
    "--precision",
    type=click.Choice(["float16", "float32", "int8"]),
    help="How exactly vectors are stored. [default: float16]",
)
@click.option(
    "--long",
    type=click.Choice(["truncate", "chunk"]),
    help="Cut a longer text, or average its overlapping chunks. [default: truncate]",
)
@field_options
@click.option(
    "--on-error",
    type=click.Choice(["abort", "skip"]),
    default="abort",
    show_default=True,
    help="A bad row ends the run, or is skipped and counted.",
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write where skipped rows are, and why, to this file (jsonl).",
)
@click.option(
    "--sync", is_flag=True, help="Then remove the documents that are in no SOURCE any more."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only list what would be new, updated and removed; INDEX has to exist.",
)
@click.option(
    "--auto-compact/--no-auto-compact",
    default=True,
    help="Merge small segments after the run. [default: yes]",
)
@device_options
@lock_timeout_option
@json_option
@verbosity_options
def command(
    index: Path,
    sources: tuple[str, ...],
    text_field: str,
    id_field: str | None,
    label_field: str | None,
    metadata_fields: tuple[str, ...],
    format_: str,
    on_error: str,
    rejects: Path | None,
    sync: bool,
    dry_run: bool,
    auto_compact: bool,
    engine: str,
    device: str,
    dtype: str,
    lock_timeout_s: float,
    as_json: bool,
    **settings: Any,
) -> None:
    """Create INDEX or extend it with the documents of each SOURCE.

    A SOURCE is a jsonl, json, csv, tsv, parquet or txt file (a document a line), a folder of
    text files, or - for standard input. Documents that are there unchanged are skipped; an id
    that is there with other content is an update. Each window of documents is committed as it
    is done: after an interruption, run the same command again.

    With --sync the documents that were in none of the sources are removed, once these have all
    been read to the end. A row that is skipped keeps its document; if one has no id that can be
    read, nothing is removed, nor if there is no document in the sources.

    The options from --model to --long are stored in INDEX by its first run.

    \b
    layerdex index my-index reviews.csv --text-field body --label-field stars
    layerdex index my-index questions.txt --template 'A question: {text}'
    layerdex index e5 a.txt --template 'd: {text}' --query-template 'q: {text}'
    layerdex index my-index more.jsonl --on-error skip --rejects bad.jsonl
    zcat old.jsonl.gz | layerdex index my-index -
    layerdex index my-index today.jsonl --sync --dry-run
    """
    from layerdex.choices import Format
    from layerdex.indexer.readers import check_sources
    from layerdex.storage.catalog.engine import translate_errors

    if not sources:
        raise click.UsageError("give at least one SOURCE, or - for standard input")
    if rejects is not None and on_error != "skip":
        raise click.UsageError("--rejects needs --on-error skip: the run ends at a bad row")
    check_sources(sources, format=Format(format_))
    check_outputs(index, rejects)
    check_rejects_path(rejects, sources)
    with translate_errors(index):
        had_folder = index.exists()
    running = {"engine": engine, "device": device, "dtype": dtype}
    target, is_new = open_or_create(index, dry_run=dry_run, running=running, **settings)
    changes = Changes(as_json)
    try:
        with open_rejects(rejects) as rejected, reading_progress("Indexing") as (on_rows, on_bytes):
            report = target.add(
                *sources,
                fields=make_fields(text_field, id_field, label_field, metadata_fields),
                format=format_,
                on_error=on_error,
                on_reject=rejected.add,
                on_change=changes.add if dry_run else None,
                on_progress=on_rows,
                on_bytes=on_bytes,
                sync=sync,
                dry_run=dry_run,
                auto_compact=auto_compact,
                lock_timeout_s=lock_timeout_s,
            )
    except BaseException as error:
        if is_new and not isinstance(error, LockedIndexError):
            discard_if_unused(target, had_folder=had_folder)
        if isinstance(error, KeyboardInterrupt) and index.exists():
            error.args = ("what was committed is in the index.",)
        raise
    rejected.summarize()
    if dry_run:
        changes.summarize(report)
        return
    is_refused = 0 < report.n_read == report.n_rejected
    if is_new and not is_refused:
        note(f"Created {index}")
    _print_report(report, target, as_json=as_json)
    if is_refused:
        if is_new:
            discard_if_unused(target, had_folder=had_folder)
        outcome = f"{index} was not created" if is_new else f"{index} is as it was"
        raise RowError(f"every row that was read was rejected, so {outcome}")


def _print_report(report: Any, target: Any, *, as_json: bool) -> None:
    from dataclasses import asdict

    from layerdex.layers import describe_layers

    if as_json:
        print_json({**asdict(report), "n_documents": len(target)})
        return
    click.echo(
        f"{report.n_read:,} read = {report.n_new:,} new + {report.n_updated:,} updated "
        f"+ {report.n_unchanged:,} unchanged + {report.n_rejected:,} rejected"
        + (f"; {report.n_removed:,} removed" if report.n_removed else "")
    )
    layers, settings = describe_layers(target.layers), target.store.settings
    click.echo(
        f"{counted(len(target), 'document')} in the index, layers {layers} of {settings.model}"
    )
    if report.n_truncated:
        note(
            f"{counted(report.n_truncated, 'text')} longer than "
            f"{counted(settings.max_length, 'token')}, cut: "
            f"see 'layerdex info {target.store.path} --truncated'"
        )
