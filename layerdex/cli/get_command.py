"""``layerdex get``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.options import index_argument, json_option, verbosity_options
from layerdex.cli.output import print_json, print_jsonl


@click.command("get", short_help="Print documents by id.")
@index_argument
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
@verbosity_options
def command(index: Path, ids: tuple[str, ...], as_json: bool) -> None:
    """Print documents of INDEX by id, a JSON line each.

    \b
    layerdex get my-index a17 a18
    """
    from layerdex.index import Index

    target = Index.open(index, damaged=True)
    target.store.check_catalog()
    documents = [document.as_row() for document in target.get(*ids)]
    if as_json:
        print_json(documents)
    else:
        print_jsonl(documents)
