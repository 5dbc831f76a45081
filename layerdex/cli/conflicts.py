"""Options that cannot be used together, or only with another one: one mechanism for all commands.

A command lists its rules as data and calls `check_rules` first. Options are named as parameters;
messages show them as the user writes them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import click
from click.core import ParameterSource


@dataclass(frozen=True, slots=True)
class Excludes:
    """``option`` cannot be used with any of ``others``.

    With ``value`` the rule holds where the option has this value, whether given or by default.
    """

    option: str
    others: tuple[str, ...]
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Requires:
    """``option`` can only be used with ``needed``, or with one of several.

    ``reason`` follows in the message.
    """

    option: str
    needed: str | tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Together:
    """Two options that are given both or not at all."""

    first: str
    second: str


Rule = Excludes | Requires | Together


def check_rules(rules: Sequence[Rule]) -> None:
    """Raise `click.UsageError` for the first rule that the command line breaks."""
    for rule in rules:
        if broken := _find_broken(rule):
            raise click.UsageError(broken)


def check_only(used: Collection[str], *, reason: str) -> None:
    """Raise `click.UsageError` for the first option that is given and not in ``used``."""
    for parameter in click.get_current_context().command.params:
        name = parameter.name
        if isinstance(parameter, click.Option) and name and is_given(name) and name not in used:
            raise click.UsageError(f"{_spell(name)} {reason}")


def is_given(name: str) -> bool:
    """Say whether the parameter was given on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def check_single(option: str, *several: str) -> None:
    """Raise `click.UsageError` where ``option`` is used with several values of another option."""
    for name in several:
        value = _value(name)
        if value == "both" or (isinstance(value, list | tuple) and len(value) > 1):
            raise click.UsageError(f"{option} takes only one {_spell(name)}")


def _find_broken(rule: Rule) -> str | None:
    match rule:
        case Excludes(option, others, value):
            shown = _spell(option) if value is None else f"{_spell(option)} {value}"
            if is_given(option) if value is None else _value(option) == value:
                for other in others:
                    if is_given(other):
                        return f"{_spell(other)} cannot be used with {shown}"
        case Requires(option, needed, reason):
            any_of = (needed,) if isinstance(needed, str) else needed
            if is_given(option) and not any(map(is_given, any_of)):
                because = f": {reason}" if reason else ""
                return f"{_spell(option)} requires {_spell_any(any_of)}{because}"
        case Together(first, second):
            if is_given(first) != is_given(second):
                return f"{_spell(first)} and {_spell(second)} must be used together"
    return None


def _value(name: str) -> object:
    return click.get_current_context().params.get(name)


def _spell_any(names: Sequence[str]) -> str:
    *others, last = map(_spell, names)
    return f"{', '.join(others)} or {last}" if others else last


def _spell(name: str) -> str:
    """Return a parameter as the user writes it: an option's longest name, an argument's metavar."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name == name:
            if isinstance(parameter, click.Argument):
                return parameter.make_metavar(context)
            return max(parameter.opts, key=len)
    raise LookupError(f"the command has no parameter {name!r}")
