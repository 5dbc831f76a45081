"""What a machine has: versions, devices, models and problems."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import click

from layerdex.cli.render.tables import make_list, print_table
from layerdex.cli.render.text import escape, one_line

if TYPE_CHECKING:
    from layerdex.index.machine import Machine


def print_machine(machine: Machine) -> None:
    """Print a line for each part, then the problems."""
    names = [field.name for field in fields(machine) if field.name != "problems"]
    print_table(make_list({name: one_line(getattr(machine, name)) for name in names}))
    for problem in machine.problems:
        click.echo(f"Problem: {escape(problem)}")
    if not machine.problems:
        click.echo("No problems found.")
