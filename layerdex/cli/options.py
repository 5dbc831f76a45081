"""Options that several commands share."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

QUIET = "layerdex.quiet"

index_argument = click.argument("index", type=click.Path(path_type=Path))
where_option = click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Only documents with FIELD=VALUE, !=, <, >, <=, >=, or 'FIELD in A,B'; FIELD is label, "
    "id or a metadata field, in double quotes if an operator is in its name. Repeatable: all "
    "must hold.",
)
min_per_label_option = click.option(
    "--min-per-label",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Leave out labels with fewer documents than this.",
)
k_option = click.option("-k", type=int, default=10, show_default=True, help="How many neighbours.")
text_field_option = click.option(
    "--text-field", default="text", show_default=True, help="Field of the text in --input FILE."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
jsonl_option = click.option("--jsonl", "as_jsonl", is_flag=True, help="Print a JSON line a result.")


class NumbersType(click.ParamType[list[int]]):
    """Whole numbers separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is not a number, nor numbers separated by commas", param, ctx)


def _refuse_nan(_ctx: click.Context, _parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("nan is not a number of seconds")
    return value


lock_timeout_option = click.option(
    "--lock-timeout",
    "lock_timeout_s",
    type=click.FloatRange(min=0),
    callback=_refuse_nan,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for another writer.",
)


class SimilarityType(click.ParamType[float | str]):
    """A number, or a word for the library to judge, such as p99."""

    name = "similarity"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        if str(value).startswith("p"):
            return str(value)
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor a percentile such as p99", param, ctx)


def check_one_form(as_json: bool, as_jsonl: bool) -> None:
    """Refuse two forms of output at once."""
    if as_json and as_jsonl:
        raise click.UsageError("give --json or --jsonl, not both")


def verbosity_options(function: Decorated) -> Decorated:
    """Add ``-q`` (no progress, no notes) and ``-v`` (the library's log)."""
    quiet = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_set_quiet,
        help="No notes, no progress.",
    )
    verbose = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_set_verbose,
        help="Show the log.",
    )
    return quiet(verbose(function))


def device_options(function: Decorated) -> Decorated:
    """Add ``--engine``, ``--device`` and ``--dtype``: what the encoder runs on."""
    engine = click.option(
        "--engine",
        type=click.Choice(["auto", "torch", "openvino"]),
        default="auto",
        help="What encodes. [default: openvino on a CPU where it is installed, else torch]",
    )
    device = click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda (all GPUs) or cuda:N."
    )
    dtype = click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        help="What the encoder computes in. [default: bfloat16 where the hardware has it]",
    )
    return engine(device(dtype(function)))


def encoder_options(function: Decorated) -> Decorated:
    """Add the options of a command that may need the encoder of an index that exists."""
    model = click.option("--model", help="Folder of the index's model, if it has moved.")
    adapter = click.option("--adapter", help="Folder of its adapter, if that has moved.")
    return model(adapter(device_options(function)))


def field_options(function: Decorated) -> Decorated:
    """Add the options that say how to read a source; see `make_fields`."""
    decorators = (
        click.option("--text-field", default="text", show_default=True, help="Field of the text."),
        click.option("--id-field", help="Field of the id. [default: id, if there is one]"),
        click.option("--label-field", help="Field of the label. [default: label, if there is one]"),
        click.option(
            "--metadata-field",
            "metadata_fields",
            multiple=True,
            help="Keep only this other field; repeatable. [default: all; a nested one is an error]",
        ),
        click.option(
            "--format",
            "format_",
            type=click.Choice(["auto", "jsonl", "json", "csv", "tsv", "parquet", "txt", "folder"]),
            default="auto",
            help="Format of what is read. [default: by file name; - is jsonl if it begins with {, "
            "json with [{, else txt]",
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def make_fields(
    text_field: str, id_field: str | None, label_field: str | None, metadata: tuple[str, ...]
) -> Any:
    """Return the `Fields` that the options of `field_options` stand for."""
    from layerdex.indexer.readers import Fields

    return Fields(text=text_field, id=id_field, label=label_field, metadata=metadata or None)


def _set_quiet(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.meta[QUIET] = value


def _set_verbose(_ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("layerdex").setLevel(logging.INFO)


query_template_option = click.option(
    "--query-template",
    metavar="TEMPLATE",
    help="Prompt around each query, such as 'query: {text}'. [default: the index's own]",
)


def layer_option(help_: str) -> Callable[[Decorated], Decorated]:
    """``--layer`` of a question, as text: fused layers may carry weights."""
    return click.option("--layer", metavar="LAYERS", help=help_)


def fuse_option(*ways: str) -> Callable[[Decorated], Decorated]:
    """``--fuse``: the layers given count as one."""
    return click.option(
        "--fuse",
        type=click.Choice(ways),
        help="Take several layers as one; each may have a weight, such as 4:0.7,6:0.3.",
    )


def transform_option(help_: str) -> Callable[[Decorated], Decorated]:
    """``--transform``: what is done to vectors before they are compared."""
    return click.option(
        "--transform",
        type=click.Choice(["none", "center", "whiten"]),
        default="none",
        show_default=True,
        help=help_,
    )


stored_transform_option = transform_option(
    "Compare vectors with the documents' mean taken off, or whitened too, as 'layerdex transform' "
    "has fitted it."
)


def transform_json(transform: str) -> dict[str, str]:
    """Return what answers in JSON say of a transform: nothing where there is none."""
    return {} if transform == "none" else {"transform": transform}


def transform_title(transform: str) -> str:
    """Return what titles add for a transform."""
    return "" if transform == "none" else f" · {transform}"
