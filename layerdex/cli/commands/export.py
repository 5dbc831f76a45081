"""``layerdex export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.choices import ExportFormat
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

_RULES = (Requires("layer", "vectors"),)
_STDOUT = (Path("-"), Path("/dev/stdout"))
"""Written to as it is: replacing a file that it leads to would lose what is there already."""


@click.command("export", short_help="Write the documents as jsonl or parquet.")
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
    help="Format to write. [default: parquet for .parquet and .pq, jsonl for .jsonl, .ndjson and "
    "no extension]",
)
@click.option(
    "--vectors", is_flag=True, help="Write stored vectors too, those of layer N as vector_N."
)
@click.option(
    "--layer",
    help="Layers of --vectors: all, -1, 4 or 0,3,6. [default: the saved best, else the deepest]",
)
@where_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    output: Path | None,
    format_: ExportFormat,
    vectors: bool,
    layer: str | None,
    where: tuple[str, ...] | Filter,
) -> None:
    """Write the documents of INDEX in input order, all from one commit.

    'layerdex index' makes an equal index from the file; it ignores exported vectors.

    \b
    layerdex export my-index -o all.jsonl
    layerdex export my-index --where label=spam | head
    layerdex export my-index -o all.parquet --vectors --layer 0,6,12
    """
    from layerdex.index.checks import default_layer

    check_rules(_RULES)
    if output in _STDOUT:
        output = None
    check_outputs(path, output)
    if output is None and format_ is ExportFormat.PARQUET:
        raise OptionError("parquet cannot be written to standard output: give a file with -o")
    index = context.open_index(path, damaged=True)
    context.note_damage(index)
    layers = (layer or default_layer(index)) if vectors else None
    with context.progress("Exporting") as on_progress:
        n_written = index.export(
            sys.stdout.buffer if output is None else output,
            format=format_,
            where=where,
            layers=layers,
            on_progress=on_progress,
        )
    if output is None:
        sys.stdout.buffer.flush()  # flushed here, a closed pipe is not an error
    else:
        context.note(f"{counted(n_written, 'document')} written to {output}")
