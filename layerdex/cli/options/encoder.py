"""The encoder of a new index, as one object."""

from __future__ import annotations

import click

from layerdex.choices import LongText, Pooling
from layerdex.cli.options.grouping import collect, combine
from layerdex.cli.options.types import EnumChoice
from layerdex.options import EncoderOptions

encoder_options = combine(
    click.option("--model", help="minilm, a local folder or a hub id. [default: minilm]"),
    click.option("--revision", help="Revision of a hub model."),
    click.option("--adapter", metavar="FOLDER", help="Adapter that 'tune' trained for the model."),
    click.option(
        "--pooling",
        type=EnumChoice(Pooling),
        help="How token states become one vector. [default: the model's own, else mean]",
    ),
    click.option(
        "--template",
        help="Prompt around each text, such as 'A question: {text}'. [default: the model's "
        "default prompt, else none]",
    ),
    click.option(
        "--max-length",
        type=int,
        help="Maximum number of tokens of a text. [default: what the model's "
        "sentence-transformers file says, else at most 512]",
    ),
    click.option(
        "--long",
        type=EnumChoice(LongText),
        help="Truncate a longer text, or average its overlapping chunks. [default: truncate]",
    ),
    click.option(
        "--calibrate",
        "calibration",
        metavar="FILE",
        help="Texts to quantise the model by, for --dtype int8, read as SOURCE is. [default: "
        "Layerdex's own]",
    ),
    collect(EncoderOptions, "encoder"),
)
"""The options of an `EncoderOptions`, which the command gets as ``encoder``."""
