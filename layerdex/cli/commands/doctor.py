"""``layerdex doctor``."""

from __future__ import annotations

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import json_option, verbosity_options
from layerdex.cli.render.machine import print_machine


@click.command("doctor", short_help="Check this machine's installation.")
@json_option
@verbosity_options
@pass_context
def command(context: Context) -> None:
    """Show versions, devices and models; exit with 1 if FAISS is missing or in conflict."""
    from layerdex.index.json import to_json
    from layerdex.index.machine import describe_machine

    machine = describe_machine()
    context.print(table=lambda: print_machine(machine), document=lambda: to_json(machine))
    if machine.problems:
        click.get_current_context().exit(1)
