"""``layerdex get``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.context import Context, pass_context, print_json_lines
from layerdex.cli.options import json_option, path_argument, verbosity_options


@click.command("get", short_help="Print documents by id.")
@path_argument
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
@verbosity_options
@pass_context
def command(context: Context, path: Path, ids: tuple[str, ...]) -> None:
    """Print documents of INDEX by id, one JSON object per line.

    \b
    layerdex get my-index a17 a18
    """
    from layerdex.index.checks import check_catalog
    from layerdex.index.json import to_json

    index = context.open_index(path, damaged=True)
    check_catalog(index)
    documents = [to_json(document) for document in index.get(*ids)]
    context.print(table=lambda: print_json_lines(documents), document=lambda: documents)
