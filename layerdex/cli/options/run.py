"""Options of a run: verbosity, output form, where the encoder runs. They fill the `Context`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from layerdex.choices import Dtype, EngineName
from layerdex.cli.context import Context, OutputForm
from layerdex.cli.options.grouping import Decorator, combine
from layerdex.cli.options.types import EnumChoice


def context_flag(*names: str, help: str, act: Callable[[Context], None]) -> Decorator:
    """Return a flag that changes the `Context` instead of reaching the command."""

    def callback(ctx: click.Context, _parameter: click.Parameter, is_set: bool) -> None:
        context = ctx.ensure_object(Context)
        if is_set:
            act(context)

    return click.option(*names, is_flag=True, expose_value=False, callback=callback, help=help)


def _context_value(
    *names: str, store: Callable[[Context, str, Any], None], **attributes: Any
) -> Decorator:
    """Return an option whose value goes to the `Context` instead of the command."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        store(ctx.ensure_object(Context), str(parameter.name), value)

    return click.option(*names, expose_value=False, callback=callback, **attributes)


def _be_quiet(context: Context) -> None:
    context.is_quiet = True


verbosity_options = combine(
    context_flag("-q", "--quiet", act=_be_quiet, help="No notes, no progress."),
    context_flag("-v", "--verbose", act=Context.show_log, help="Show the log."),
)
json_option = context_flag(
    "--json",
    act=lambda context: context.set_form(OutputForm.JSON),
    help="Print one JSON document.",
)
jsonl_option = context_flag(
    "--jsonl",
    act=lambda context: context.set_form(OutputForm.JSONL),
    help="Print one JSON object per line.",
)
runtime_options = combine(
    _context_value(
        "--engine",
        store=Context.set_runtime,
        type=EnumChoice(EngineName),
        default=EngineName.AUTO.value,
        help="Inference engine. [default: openvino on a CPU if it is installed, else torch]",
    ),
    _context_value(
        "--device",
        store=Context.set_runtime,
        default="auto",
        show_default=True,
        help="auto, cpu, cuda (all GPUs) or cuda:N; with cuda, vectors are compared there, too.",
    ),
    _context_value(
        "--dtype",
        store=Context.set_runtime,
        type=EnumChoice(Dtype),
        default=Dtype.AUTO.value,
        help="Data type that the encoder computes in; int8 is less exact, faster on some CPUs, and "
        "for an index of its own. [default: that of the index; bfloat16 if the hardware has it]",
    ),
)


search_device_option = _context_value(
    "--device",
    store=Context.set_runtime,
    default="auto",
    show_default=True,
    help="Where many vectors are compared: auto (the CPU), cpu, cuda or cuda:N; same answers.",
)
"""For a command that compares vectors and loads no encoder."""


def _store_folder(context: Context, name: str, value: str | None) -> None:
    setattr(context, f"{name}_folder", value)


def _store_calibration(context: Context, _name: str, value: str | None) -> None:
    context.calibration_file = value


model_folder_option = _context_value(
    "--model", store=_store_folder, help="Folder of the index's model, if it has moved."
)
calibration_file_option = _context_value(
    "--calibrate",
    store=_store_calibration,
    metavar="FILE",
    help="File of the texts that an int8 index's model was quantised by, if it has moved.",
)
stored_encoder_options = combine(
    model_folder_option,
    _context_value(
        "--adapter", store=_store_folder, help="Folder of the index's adapter, if it has moved."
    ),
    calibration_file_option,
    runtime_options,
)
"""For a command that may load the encoder of an existing index."""


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
