"""A training: epochs, layers before and after, and the command that uses the adapter."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import click

from layerdex.choices import LongText, StoredPrecision
from layerdex.cli.render.metrics import describe_range
from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted, escape
from layerdex.options import EncoderOptions, TextFile

if TYPE_CHECKING:
    from layerdex.index.checks import IndexInfo
    from layerdex.index.training import Tuning
    from layerdex.records import EncoderSettings


_DEFAULTS = EncoderOptions(model="minilm", template="{text}", long=LongText.TRUNCATE).chosen()


def print_tuning(tuning: Tuning, *, model: EncoderSettings, info: IndexInfo) -> None:
    """Print what was trained, each epoch, each layer before and after, and the next command.

    ``model`` are the settings of the loaded encoder, which know where the model lies now.
    """
    trained = tuning.trained
    click.echo(
        f"Trained {trained.n_trained:,} of {counted(trained.n_parameters, 'parameter')} "
        f"({trained.share:.2%}) for layer {tuning.layer}, on "
        f"{counted(tuning.n_training, 'document')}"
    )
    if tuning.n_left_out:
        left_out = counted(tuning.n_left_out, "document")
        click.echo(f"Left out of training: {left_out} whose text is in the test set")
    _print_epochs(tuning)
    _print_layers(tuning)
    click.echo(
        f"The adapter is in {escape(str(tuning.adapter))}; make an index with it:\n"
        f"  {escape(shlex.join(_next_command(tuning, model, info)))}"
    )


def _print_epochs(tuning: Tuning) -> None:
    title = f"Epochs, with the accuracy on {counted(tuning.n_held_out, 'held-out document')}"
    table = make_table(">epoch", ">training loss", ">held-out accuracy", "", title=title)
    for epoch in tuning.trained.epochs:
        is_kept = epoch.number == tuning.trained.best_epoch
        cells = (str(epoch.number), f"{epoch.loss:.4f}", f"{epoch.accuracy:.4f}")
        table.add_row(*cells, "kept" if is_kept else "", style="bold" if is_kept else None)
    print_table(table)


def _print_layers(tuning: Tuning) -> None:
    before, after = tuning.before, tuning.after
    documents = counted(after.n, "test document" if tuning.is_test else "held-out document")
    [k] = after.ks
    title = f"{documents} classified by {k} neighbours"
    if not tuning.is_test:
        title += "; they chose the epoch"
    headers = (">accuracy before", ">after (95 %)", ">macro-F1 before", ">after")
    table = make_table(">layer", *headers, title=title)
    for plain, tuned in zip(before.scores, after.scores, strict=True):
        table.add_row(
            str(tuned.layer),
            f"{plain.values['accuracy']:.4f}",
            f"{tuned.values['accuracy']:.4f} ({describe_range(tuned.intervals['accuracy'])})",
            f"{plain.values['macro_f1']:.4f}",
            f"{tuned.values['macro_f1']:.4f}",
            style="bold" if tuned.layer == tuning.layer else None,
        )
    print_table(table)


def _next_command(tuning: Tuning, model: EncoderSettings, info: IndexInfo) -> list[str]:
    """Return the command that makes an index like the one trained on, but with the adapter."""
    words = ["layerdex", "index", "NEW-INDEX", "SOURCE", "--layers", f"0-{tuning.layer}"]
    options = replace(model.options(), adapter=str(tuning.adapter)).chosen()
    if model.quantization is not None:
        words += ["--dtype", "int8"]
    options.pop("calibration", None)
    if (texts := model.calibration) is not None:
        words += ["--calibrate", texts.path, *_reading_options(texts)]
    for name, value in options.items():
        if value != _DEFAULTS.get(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    if info.query_template is not None:
        words += ["--query-template", info.query_template]
    if info.precision is not StoredPrecision.FLOAT16:
        words += ["--precision", info.precision.value]
    return words


def _reading_options(texts: TextFile) -> list[str]:
    """Return the options by which a file was read, where they differ from the defaults.

    `layerdex index` reads SOURCE by them as well.
    """
    words = []
    for field in fields(texts):
        value = getattr(texts, field.name)
        if field.name != "path" and value != field.default:
            shown = "tab" if value == "\t" else str(value)
            words += [f"--{field.name.replace('_', '-')}", shown]
    return words
