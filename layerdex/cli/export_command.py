"""``layerdex export``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from layerdex.cli.options import index_argument, verbosity_options, where_option
from layerdex.cli.output import check_outputs, counted, note, note_damage, progress
from layerdex.errors import OptionError


@click.command("export", short_help="Write the documents as jsonl or parquet.")
@index_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, - for standard output. [default: -]",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["auto", "jsonl", "parquet"]),
    default="auto",
    help="Format to write. [default: parquet for .parquet and .pq, jsonl for .jsonl, .ndjson and "
    "no extension]",
)
@click.option("--vectors", is_flag=True, help="Write stored vectors too, as vector_N of layer N.")
@click.option(
    "--layer",
    help="Layers of --vectors: all, -1, 4 or 0,3,6. [default: the best one saved, else the "
    "deepest]",
)
@where_option
@verbosity_options
def command(
    index: Path,
    output: Path | None,
    format_: str,
    vectors: bool,
    layer: str | None,
    where: tuple[str, ...],
) -> None:
    """Write the documents of INDEX, in input order, as they were at one commit.

    'layerdex index' makes the same index of it, and leaves vectors out.

    \b
    layerdex export my-index -o all.jsonl
    layerdex export my-index --where label=spam | head
    layerdex export my-index -o all.parquet --vectors --layer 0,6,12
    """
    from layerdex.index import Index

    if layer is not None and not vectors:
        raise click.UsageError("--layer says of which layers to write --vectors")
    if output == Path("-"):
        output = None
    check_outputs(index, output)
    if output is None and format_ == "parquet":
        raise OptionError("parquet cannot be written to standard output: give a file with -o")
    target = Index.open(index, damaged=True)
    note_damage(target)
    layers = (layer or target.choose_layer(None)) if vectors else None
    with progress("Exporting") as on_progress:
        n_written = target.export(
            sys.stdout.buffer if output is None else output,
            format=format_,
            where=where,
            layers=layers,
            on_progress=on_progress,
        )
    if output is None:
        sys.stdout.buffer.flush()  # here, a reader that has gone is no error
    else:
        note(f"{counted(n_written, 'document')} written to {output}")
