"""Options of a question: the index, layers, fusion, transform and conditions, neighbours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from layerdex.choices import Fuse, TransformName, Weights
from layerdex.cli.options.grouping import Decorator, collect, combine
from layerdex.cli.options.types import DateFormatType, EnumChoice, PathType, by_field

if TYPE_CHECKING:
    from layerdex.index import Index, View
    from layerdex.search.filters import Filter

BOTH = "both"

path_argument = click.argument("path", metavar="INDEX", type=PathType())
k_option = click.option("-k", type=int, default=10, show_default=True, help="Number of neighbours.")
_DATE_FORMAT = "date_format"


def _declare_dates(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one ``where``: the conditions, or with ``--date-format`` a `Filter`."""

    @functools.wraps(function)
    def call(*arguments: Any, **parameters: Any) -> Any:
        if declared := parameters.pop(_DATE_FORMAT):
            from layerdex.search.filters import Filter

            if not parameters["where"]:
                raise click.UsageError("--date-format requires --where")
            formats = by_field(declared)
            parameters["where"] = Filter(*parameters["where"], date_formats=formats)
        return function(*arguments, **parameters)

    return call


where_option = combine(
    click.option(
        "--where",
        multiple=True,
        metavar="CONDITION",
        help="Only documents with FIELD=VALUE, !=, <, >, <=, >=, 'FIELD in (A, B)', 'between A and "
        "B', 'is null', 'like PATTERN' or 'ilike PATTERN' (% is any text), joined by AND, OR, NOT "
        "and parentheses; FIELD is label, id or a metadata field. Dates are compared as such. "
        "Repeatable: all conditions must hold. See docs/filters.md.",
    ),
    click.option(
        "--date-format",
        _DATE_FORMAT,
        type=DateFormatType(),
        multiple=True,
        metavar="FIELD=FORMAT",
        help="How the dates of a field are written if not as in ISO 8601, such as "
        "'Datum=%d.%m.%Y' (as Python's strptime); for --where, repeatable.",
    ),
    _declare_dates,
)


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What a question is asked of: layers, how they are fused and transformed, which documents."""

    layer: str | None = None
    fuse: Fuse | None = None
    transform: TransformName = TransformName.NONE
    where: tuple[str, ...] | Filter = ()

    def bind(self, index: Index) -> View:
        """Return the view of an index that answers the question."""
        return index.at(**{field.name: getattr(self, field.name) for field in fields(self)})


def target_options(
    layer_help: str,
    *,
    layers: bool = False,
    fuse: Iterable[str] = (),
    transform_help: str | None = None,
) -> Decorator:
    """Return the options of a `TargetOptions`, which the command gets as ``target``.

    ``layers`` makes the option ``--layers``, all by default. Without choices for ``fuse`` or a help
    for the transform, these options are left out.
    """
    if layers:
        options = [
            click.option("--layers", "layer", default="all", show_default=True, help=layer_help)
        ]
    else:
        options = [click.option("--layer", metavar="LAYERS", help=layer_help)]
    if ways := list(fuse):
        options.append(
            click.option(
                "--fuse",
                type=EnumChoice(ways),
                help="Combine several layers; each may have a weight, such as 4:0.7,6:0.3.",
            )
        )
    if transform_help is not None:
        options.append(
            click.option(
                "--transform",
                type=EnumChoice(TransformName),
                default=TransformName.NONE.value,
                show_default=True,
                help=transform_help,
            )
        )
    return combine(*options, where_option, collect(TargetOptions, "target"))


STORED_TRANSFORM = (
    "Compare centred or whitened vectors, with the transforms that 'layerdex transform' fitted."
)
FUSED_VECTORS = (Fuse.MEAN, Fuse.CONCAT)
VOTE_WEIGHTS = "Weight of a neighbour's vote: 1, or 1/(1 - similarity)."
weights_option = click.option(
    "--weights",
    type=EnumChoice(Weights),
    default=Weights.DISTANCE.value,
    show_default=True,
    help=VOTE_WEIGHTS,
)
query_template_option = click.option(
    "--query-template",
    metavar="TEMPLATE",
    help="Prompt around each query, such as 'query: {text}'. [default: the index's own]",
)
min_per_label_option = click.option(
    "--min-per-label",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Leave out labels with fewer than N documents.",
)
plot_path = PathType(dir_okay=False)
