"""``layerdex export``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.dedup_command import document_json
from layerdex.cli.options import index_argument, verbosity_options, where_option
from layerdex.cli.output import check_outputs, counted, note, note_damage, print_jsonl, write_jsonl


@click.command("export", short_help="Write the documents as jsonl.")
@index_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write. [default: standard output]",
)
@where_option
@verbosity_options
def command(index: Path, output: Path | None, where: tuple[str, ...]) -> None:
    """Write the documents of INDEX as jsonl, in input order.

    'layerdex index' makes the same index of it.

    \b
    layerdex export my-index -o all.jsonl
    layerdex export my-index --where label=spam | head
    """
    from layerdex.index import Index

    check_outputs(index, output)
    target = Index.open(index, damaged=True)
    note_damage(target)
    documents = (document_json(one) for one in target.documents(where=where))
    if output is None:
        print_jsonl(documents)
    else:
        note(f"{counted(write_jsonl(output, documents), 'document')} written to {output}")
