"""``layerdex info``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from layerdex.cli.measurement_output import NAMES
from layerdex.cli.options import index_argument, json_option, verbosity_options
from layerdex.cli.output import (
    counted,
    make_table,
    note_damage,
    one_line,
    print_json,
    print_jsonl,
    print_table,
)

_N_LABELS_SHOWN = 5


@click.command("info", short_help="Say what is in an index.")
@index_argument
@click.option("--truncated", is_flag=True, help="List the texts that were cut, as jsonl, instead.")
@json_option
@verbosity_options
def command(index: Path, truncated: bool, as_json: bool) -> None:
    """Say what is in INDEX and how it was made."""
    from layerdex.index import Index

    target = Index.open(index, damaged=True)
    if truncated:
        rows = [asdict(one) for one in target.truncated()]
        note_damage(target)
        (print_json if as_json else print_jsonl)(rows)
        return
    info = target.info()
    note_damage(target)
    if as_json:
        print_json(_to_json(info))
    else:
        _print(info, title=str(index))


def _to_json(info: Any) -> dict[str, Any]:
    encoder = info.encoder
    return {
        "n_documents": info.n_documents,
        "n_dead": info.n_dead,
        "n_segments": info.n_segments,
        "n_truncated": info.n_truncated,
        "size_bytes": info.size_bytes,
        "layers": list(info.layers),
        "precision": info.precision.value,
        "depth": encoder.depth,
        "width": encoder.width,
        "model": encoder.model,
        "revision": encoder.revision,
        "adapter": encoder.adapter,
        "pooling": encoder.pooling.value,
        "template": encoder.template,
        "query_template": info.query_template,
        "max_length": encoder.max_length,
        "long": encoder.long.value,
        "fingerprint": encoder.fingerprint,
        "token_budget": encoder.token_budget,
        "window": encoder.window,
        "labels": info.labels,
        "best_layer": info.best_layer,
        "transform": info.transform,
    }


def _describe_best(best: dict[str, Any]) -> str:
    name = next(name for name in NAMES if name in best)
    return f"{NAMES[name]} {best[name]:.4f}"


def _describe_transform(transform: dict[str, Any]) -> str:
    changed = counted(transform["n_changed"], "document")
    return f"fitted on {counted(transform['n'], 'document')}; {changed} added or removed since"


def _print(info: Any, *, title: str) -> None:
    from layerdex.layers import describe_layers

    encoder = info.encoder
    labels = ", ".join(
        f"{label} ({n:,})" for label, n in list(info.labels.items())[:_N_LABELS_SHOWN]
    )
    n_more = len(info.labels) - _N_LABELS_SHOWN
    best = info.best_layer
    saved = "none saved" if best is None else f"{best['layer']} ({_describe_best(best)})"
    rows = {
        "documents": f"{info.n_documents:,} live, {counted(info.n_dead, 'dead version')}",
        "segments": f"{info.n_segments:,}, {info.size_bytes / 1e6:,.1f} MB in all",
        "layers": f"{describe_layers(info.layers)} of 0-{encoder.depth}, width {encoder.width}",
        "precision": info.precision.value,
        "best layer": saved,
        "labels": f"{labels or 'none'}" + (f" and {n_more:,} more" if n_more > 0 else ""),
        "truncated": counted(info.n_truncated, "text"),
        "model": encoder.model + (f" at {encoder.revision}" if encoder.revision else ""),
        **({} if encoder.adapter is None else {"adapter": encoder.adapter}),
        "pooling": encoder.pooling.value,
        "template": encoder.template,
        **({} if info.transform is None else {"transforms": _describe_transform(info.transform)}),
        **({} if info.query_template is None else {"for queries": info.query_template}),
        "long texts": f"{encoder.long} at {counted(encoder.max_length, 'token')}",
        "fingerprint": encoder.fingerprint,
    }
    table = make_table("", "", title=one_line(title))
    table.show_header = False
    for name, value in rows.items():
        table.add_row(name, one_line(value))
    print_table(table)
