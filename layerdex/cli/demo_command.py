"""``layerdex demo``."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.dedup_output import print_duplicates, read_shown
from layerdex.cli.evaluation_output import print_evaluation
from layerdex.cli.options import device_options, verbosity_options
from layerdex.cli.output import progress, write_jsonl
from layerdex.cli.plot import plot_evaluation
from layerdex.cli.search_command import Answer, print_answer

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.records import SourceDocument

QUERIES = (
    "parse a JSON string into Python objects",
    "wait until a thread has finished",
    "remove a directory and everything in it",
)
_INDEX = "index"
_MIN_PER_LABEL = 20
_THRESHOLD = 0.95
_MAX_LENGTH = 64  # a quarter of MiniLM's own: what a docstring is about stands at its start
_N_HITS = 3


@click.command("demo", short_help="Show the whole tour on real text.")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("layerdex-demo"))
@device_options
@verbosity_options
def command(folder: Path, engine: str, device: str, dtype: str) -> None:
    """Show the whole tour on text that every machine has.

    The docstrings of Python's standard library, about 8,000 of them, are collected into FOLDER
    (default: layerdex-demo), indexed at every layer in one pass with the packaged MiniLM, then
    searched, evaluated layer by layer and deduplicated. The index stays, with commands to try.

    \b
    layerdex demo
    """
    started = time.monotonic()
    target = _index(folder, engine=engine, device=device, dtype=dtype)
    path = folder / _INDEX  # as it was typed, so that the commands shown are short
    _search(target, path)
    _evaluate(target, folder)
    _dedup(target, path)
    click.secho(f"\nDone in {time.monotonic() - started:.0f} s. More to try:", bold=True)
    _show("info", path)
    _show("search", path, "--like", "json.loads", "--layer", "0,3,6")
    _show("search", path, "read a file line by line", "--where", "kind=function", "--json")
    _show("classify", path, "open a TCP connection", "walk an abstract syntax tree")
    _show("layers", path, "--plot", "agreement.png")
    _show("get", path, "json.loads")


def _index(folder: Path, *, engine: str, device: str, dtype: str) -> Index:
    from layerdex.index import Index
    from layerdex.indexer.docstrings import collect_docstrings
    from layerdex.storage.catalog.engine import translate_errors
    from layerdex.storage.directory import CATALOG

    path, source = folder / _INDEX, folder / "docstrings.jsonl"
    click.secho("1. Every layer in one pass", bold=True)
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with progress("Collecting docstrings") as on_progress:
        documents = []
        for document in collect_docstrings():
            documents.append(document)
            if on_progress is not None:
                on_progress(len(documents), None)
    write_jsonl(source, (_to_json(document) for document in documents))
    started = time.monotonic()
    if (path / CATALOG).exists():
        target = Index.open(path, engine=engine, device=device, dtype=dtype)
    else:
        with progress("Loading the model"):
            target = Index.create(
                path, max_length=_MAX_LENGTH, engine=engine, device=device, dtype=dtype
            )
    with progress("Indexing") as on_progress:
        report = target.add(source, on_progress=on_progress, n_total=len(documents))
    seconds = time.monotonic() - started
    click.echo(
        f"{report.n_read:,} docstrings, {report.n_encoded:,} of them encoded at "
        f"{len(target.layers)} layers in {seconds:.0f} s, {report.n_truncated:,} cut"
    )
    _show("index", path, source, "--max-length", str(target.store.settings.max_length))
    return target


def _search(target: Index, path: Path) -> None:
    click.secho("\n2. The same question at the first, a middle and the last layer", bold=True)
    layers = (target.layers[0], target.layers[len(target.layers) // 2], target.layers[-1])
    found = target.search_many(QUERIES, layers=layers, k=_N_HITS)
    for i, query in enumerate(QUERIES):
        print_answer(Answer(query, None, {layer: hits[i] for layer, hits in found.items()}))
    named = ",".join(map(str, layers))
    _show("search", path, QUERIES[0], "--layer", named, "-k", str(_N_HITS))


def _evaluate(target: Index, folder: Path) -> None:
    click.secho("\n3. Which layer knows the module that a docstring comes from?", bold=True)
    picture = folder / "layers.png"
    with progress("Evaluating") as on_progress:
        evaluation = target.evaluate(min_per_label=_MIN_PER_LABEL, on_progress=on_progress)
    print_evaluation(evaluation)
    plot_evaluation(evaluation, picture)
    click.echo(f"The curve is in {picture}")
    options = ("--min-per-label", str(_MIN_PER_LABEL), "--plot", picture)
    _show("evaluate", folder / _INDEX, *options)


def _dedup(target: Index, path: Path) -> None:
    click.secho("\n4. What is in the standard library twice?", bold=True)
    texts: dict[str, str] = {}
    with progress("Comparing") as on_progress:
        found = target.deduplicate(
            threshold=_THRESHOLD,
            on_progress=on_progress,
            on_found=lambda found, read: texts.update(read_shown(found, read)),
        )
    print_duplicates(found, texts)
    _show("dedup", path, "--threshold", str(_THRESHOLD), "--clusters", "who.jsonl")


def _to_json(document: SourceDocument) -> dict[str, Any]:
    fields = {"id": document.id, "text": document.text, "label": document.label}
    return {**fields, **document.metadata}


def _show(*words: object) -> None:
    click.secho("$ layerdex " + shlex.join(map(str, words)), fg="cyan")
