"""``layerdex export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.choices import ExportFormat, MetadataLayout
from layerdex.cli.conflicts import Requires, check_rules
from layerdex.cli.context import Context, pass_context
from layerdex.cli.files import check_outputs, force_option
from layerdex.cli.options import (
    EnumChoice,
    PathType,
    path_argument,
    verbosity_options,
    where_option,
)
from layerdex.cli.render.text import counted
from layerdex.errors import OptionError

if TYPE_CHECKING:
    from layerdex.search.filters import Filter

_STDOUT = (Path("-"), Path("/dev/stdout"))
"""Written to as it is: replacing a file that it leads to would lose what is there already."""
_RULES = (Requires("layer", "vectors"),)
_FILES_ONLY = (ExportFormat.PARQUET, ExportFormat.NPY)


@click.command("export", short_help="Write the documents as jsonl, csv or parquet, or vectors.")
@path_argument
@click.option(
    "-o",
    "--output",
    type=PathType(dir_okay=False),
    help="File to write, - for standard output. [default: -]",
)
@force_option
@click.option(
    "--format",
    "format_",
    type=EnumChoice(ExportFormat),
    default=ExportFormat.AUTO.value,
    help="Format to write. [default: parquet for .parquet and .pq, csv for .csv, npy for .npy, "
    "jsonl for .jsonl, .ndjson and no extension]",
)
@click.option(
    "--metadata",
    type=EnumChoice(MetadataLayout),
    help="Metadata in one object, or each field in a column. [default: columns in csv, else "
    "object]",
)
@click.option(
    "--vectors",
    is_flag=True,
    help="Write stored vectors too, those of layer N as vector_N; npy has nothing else.",
)
@click.option(
    "--layer",
    help="Layers of --vectors or npy: all, -1, 4 or 0,3,6. [default: the saved best, else the "
    "deepest]",
)
@where_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    output: Path | None,
    format_: ExportFormat,
    metadata: MetadataLayout | None,
    vectors: bool,
    layer: str | None,
    where: tuple[str, ...] | Filter,
) -> None:
    """Write the documents of INDEX in input order, all from one commit.

    'layerdex index' makes an equal index from the file; it ignores exported vectors. In csv all
    metadata is text, and an empty text is none. The rows of X.npy are the vectors of the documents
    whose ids are in X.ids.json, which is written beside it.

    \b
    layerdex export my-index -o all.jsonl
    layerdex export my-index --where label=spam | head
    layerdex export my-index -o all.parquet --vectors --layer 0,6,12
    layerdex export my-index -o all.csv
    layerdex export my-index -o layer4.npy --layer 4
    """
    from layerdex.index.checks import default_layer
    from layerdex.index.files import ids_beside, resolve_export_format

    if output in _STDOUT:
        output = None
    check_outputs(path, output)
    format_ = resolve_export_format(output, format_)
    is_npy = format_ is ExportFormat.NPY
    if not is_npy:
        check_rules(_RULES)
    elif output is not None:
        check_outputs(path, ids_beside(output))
    if output is None and format_ in _FILES_ONLY:
        raise OptionError(f"{format_} cannot be written to standard output: give a file with -o")
    index = context.open_index(path, damaged=True)
    context.note_damage(index)
    layers = (layer or default_layer(index)) if vectors or is_npy else None
    with context.progress("Exporting") as on_progress:
        n_written = index.export(
            sys.stdout.buffer if output is None else output,
            format=format_,
            where=where,
            layers=layers,
            metadata=metadata,
            on_progress=on_progress,
        )
    if output is None:
        sys.stdout.buffer.flush()  # flushed here, a closed pipe is not an error
    else:
        what = "vector" if is_npy else "document"
        beside = f", their ids to {ids_beside(output)}" if is_npy else ""
        context.note(f"{counted(n_written, what)} written to {output}{beside}")
