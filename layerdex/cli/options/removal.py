"""How many documents a command may remove without a question."""

from __future__ import annotations

import click

from layerdex.cli.options.types import MaxRemovedType

max_removed_option = click.option(
    "--max-removed",
    type=MaxRemovedType(),
    metavar="N|P%",
    help="Remove up to so many documents, or percent of all, without a question. "
    "[default: 10%; above it, a terminal is asked]",
)
