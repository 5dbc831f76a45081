"""``layerdex dedup --against``: what another index has too."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerdex.cli.options import transform_json, transform_title
from layerdex.cli.output import (
    counted,
    make_cell,
    make_table,
    note,
    one_line,
    print_json,
    print_table,
    progress,
)
from layerdex.errors import OptionError

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.index.reading import DocumentReader
    from layerdex.records import LayerName
    from layerdex.search.dedup.overlap import Overlap, SharedDocument

_N_SHOWN = 10


def find_shared(
    target: Index, against: Path, options: dict[str, Any], *, output: Path | None, as_json: bool
) -> None:
    """Find, print, and write what is not shared."""
    from layerdex.index import Index

    transform = options["transform"]
    if output is not None:
        n_places = len(target.spaces(options["layers"], options["fuse"], transform))
        if n_places > 1:
            raise OptionError(f"-o takes one layer, or several fused, and not {n_places} layers")

    def on_found(found: dict[LayerName, Overlap], read: DocumentReader) -> None:
        if output is not None:
            [only] = found.values()
            read.export(output, only.rest)

    other = Index.open(against)
    with progress("Comparing") as on_progress:
        by_layer = target.find_overlap(other, on_progress=on_progress, on_found=on_found, **options)
    found = list(by_layer.values())
    if output is not None:
        n = len(found[0].rest)
        note(f"{counted(n, 'document')} that {against} does not have written to {output}")
    if as_json:
        print_json([{**_to_json(one), **transform_json(transform)} for one in found])
        return
    _print_counts(found, transform)
    if len(found) == 1:
        _print_pairs(found[0])


def _print_counts(found: list[Overlap], transform: str) -> None:
    first = found[0]
    title = (
        f"of {counted(first.n, 'document')}, found among {first.n_other:,} others "
        f"(similarity >= {first.threshold:g}){transform_title(transform)}"
    )
    table = make_table(">layer", ">exact", ">near", ">share", ">other label", title=title)
    for one in found:
        n = len(one.found)
        share = f"{n / one.n:.1%}" if one.n else ""
        cells = (f"{one.n_exact:,}", f"{n - one.n_exact:,}", share, f"{one.n_conflicts:,}")
        table.add_row(str(one.layer), *cells)
    print_table(table)


def _print_pairs(found: Overlap) -> None:
    """Print the least similar of what was found, by which a threshold is judged."""
    near = sorted((one for one in found.found if not one.is_exact), key=lambda one: one.similarity)
    if not near:
        return
    table = make_table(">similarity", "here", "there", title="The least similar of these")
    for one in near[:_N_SHOWN]:
        table.add_row(
            f"{one.similarity:.3f}", _cell(one.id, one.label), _cell(one.other, one.other_label)
        )
    print_table(table)


def _cell(id_: str, label: str | None) -> Any:
    return make_cell(one_line(id_), *([] if label is None else [one_line(label, 30)]))


def _to_json(found: Overlap) -> dict[str, Any]:
    leaks: list[dict[str, Any]] = [_leak_json(one) for one in found.found]
    return {
        "layer": found.layer,
        "threshold": found.threshold,
        "n": found.n,
        "n_other": found.n_other,
        "n_exact": found.n_exact,
        "n_near": len(leaks) - found.n_exact,
        "n_conflicts": found.n_conflicts,
        "found": leaks,
    }


def _leak_json(leak: SharedDocument) -> dict[str, Any]:
    return asdict(leak)
