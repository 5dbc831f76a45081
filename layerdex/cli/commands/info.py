"""``layerdex info``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.conflicts import Excludes, check_rules
from layerdex.cli.context import Context, pass_context, print_json_lines
from layerdex.cli.options import json_option, path_argument, verbosity_options
from layerdex.cli.render.info import print_info


@click.command("info", short_help="Show what an index holds.")
@path_argument
@click.option(
    "--truncated", is_flag=True, help="Instead, list the texts that were cut, as JSON lines."
)
@click.option(
    "--unknown",
    is_flag=True,
    help="Instead, list the texts with tokens that the tokenizer does not know, as JSON lines.",
)
@json_option
@verbosity_options
@pass_context
def command(context: Context, path: Path, truncated: bool, unknown: bool) -> None:
    """Show what INDEX holds and how it was made."""
    from layerdex.index.json import to_json

    check_rules([Excludes("truncated", ("unknown",))])
    index = context.open_index(path, damaged=True)
    if truncated or unknown:
        texts = index.truncated() if truncated else index.unknown()
        rows = [to_json(text) for text in texts]
        context.note_damage(index)
        context.print(table=lambda: print_json_lines(rows), document=lambda: rows)
        return
    info = index.info()
    context.note_damage(index)
    context.print(table=lambda: print_info(info, title=str(path)), document=lambda: to_json(info))
