"""``layerdex demo``."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.files import check_outputs, force_option, write_json_lines
from layerdex.cli.options import PathType, runtime_options, verbosity_options
from layerdex.cli.render.duplicates import print_duplicates, shown_documents
from layerdex.cli.render.evaluation import print_evaluation
from layerdex.cli.render.figures import save_figure
from layerdex.cli.render.hits import Answer, print_answer
from layerdex.cli.render.text import escape
from layerdex.options import EncoderOptions

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.index.document_reader import DocumentReader
    from layerdex.records import Document
    from layerdex.search.results import Deduplication

QUERIES = (
    "parse a JSON string into Python objects",
    "wait until a thread has finished",
    "remove a directory and everything in it",
)
_INDEX, _SOURCE, _PICTURE = "index", "docstrings.jsonl", "layers.png"
_MIN_PER_LABEL = 20
_THRESHOLD = 0.95
_MAX_LENGTH = 64  # a quarter of MiniLM's own: a docstring says at its start what it is about
_N_HITS = 3


@click.command("demo", short_help="Show a tour on real text.")
@click.argument("folder", type=PathType(), default=Path("layerdex-demo"))
@force_option
@runtime_options
@verbosity_options
@pass_context
def command(context: Context, folder: Path) -> None:
    """Show a tour of Layerdex on text that every machine has.

    The docstrings of Python's standard library, about 8,000, are collected into FOLDER (default:
    layerdex-demo), indexed at every layer in one pass with the packaged MiniLM, then searched,
    evaluated layer by layer and deduplicated. The index is kept, with commands to try.

    \b
    layerdex demo
    """
    started = time.monotonic()
    index = _index(context, folder)
    path = folder / _INDEX  # as it was typed, so that the commands shown are short
    _search(index, path)
    _evaluate(index, folder, context)
    _dedup(index, path, context)
    click.secho(f"\nDone in {time.monotonic() - started:.0f} s. More to try:", bold=True)
    _show("info", path)
    _show("search", path, "--like", "json.loads", "--layer", "0,3,6")
    _show("search", path, "read a file line by line", "--where", "kind=function", "--json")
    _show("classify", path, "open a TCP connection", "walk an abstract syntax tree")
    _show("layers", path, "--plot", "agreement.png")
    _show("get", path, "json.loads")


def _index(context: Context, folder: Path) -> Index:
    from layerdex.index.checks import is_index
    from layerdex.index.files import collect_docstrings
    from layerdex.index.json import to_json

    path, source = folder / _INDEX, folder / _SOURCE
    is_again = is_index(path)  # then the files are of an earlier tour
    if not is_again:
        check_outputs(path, source, folder / _PICTURE)
    click.secho("1. Every layer in one pass", bold=True)
    if is_again:
        index = context.open_index(path)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        index = context.create_index(path, EncoderOptions(max_length=_MAX_LENGTH))
    with context.progress("Collecting docstrings") as on_progress:
        documents = []
        for document in collect_docstrings():
            documents.append(document)
            if on_progress is not None:
                on_progress(len(documents), None)
    write_json_lines(source, map(to_json, documents))
    started = time.monotonic()
    with context.progress("Indexing") as on_progress:
        report = index.add(source, on_progress=on_progress, n_total=len(documents))
    seconds = time.monotonic() - started
    click.echo(
        f"{report.n_read:,} docstrings, {report.n_encoded:,} of them encoded at "
        f"{len(index.layers)} layers in {seconds:.0f} s, {report.n_truncated:,} cut"
    )
    _show("index", path, source, "--max-length", index.settings.max_length)
    return index


def _search(index: Index, path: Path) -> None:
    click.secho("\n2. The same query at the first, a middle and the last layer", bold=True)
    layers = (index.layers[0], index.layers[len(index.layers) // 2], index.layers[-1])
    names = ",".join(map(str, layers))
    results = index.search(QUERIES, layer=names, k=_N_HITS)
    for answer in Answer.group([None] * len(QUERIES), results):
        print_answer(answer.results)
    _show("search", path, QUERIES[0], "--layer", names, "-k", _N_HITS)


def _evaluate(index: Index, folder: Path, context: Context) -> None:
    from layerdex.index import LabelTask

    click.secho("\n3. Which layer knows the module that a docstring comes from?", bold=True)
    picture = folder / _PICTURE
    with context.progress("Evaluating") as on_progress:
        evaluation = index.evaluate(
            LabelTask(min_per_label=_MIN_PER_LABEL), on_progress=on_progress
        )
    print_evaluation(evaluation, note=context.note)
    save_figure(evaluation.plot(), picture)
    click.echo(f"The curve is in {escape(str(picture))}")
    options = ("--min-per-label", _MIN_PER_LABEL, "--plot", _PICTURE)
    _show("evaluate", folder / _INDEX, *options)


def _dedup(index: Index, path: Path, context: Context) -> None:
    click.secho("\n4. Which docstrings are in the standard library twice?", bold=True)
    documents: dict[str, Document] = {}

    def on_result(result: Deduplication, read: DocumentReader) -> None:
        documents.update({shown.id: shown for shown in read(shown_documents(result))})

    with context.progress("Comparing") as on_progress:
        result = index.deduplicate(
            threshold=_THRESHOLD, on_progress=on_progress, on_result=on_result
        )
    print_duplicates(result, documents)
    _show("dedup", path, "--threshold", _THRESHOLD, "--clusters", "who.jsonl")


def _show(*words: object) -> None:
    click.secho(f"$ layerdex {escape(shlex.join(map(str, words)))}", fg="cyan")
