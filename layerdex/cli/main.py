"""The ``layerdex`` command group: finds commands, and turns errors into exits."""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EAGAIN, EBADF, ECONNRESET, EDQUOT, EFBIG, EINVAL, EIO, ENOSPC, EPERM
from importlib import import_module
from typing import Any

import click

from layerdex import __version__
from layerdex.cli.render.text import escape
from layerdex.errors import FilterSyntaxError, LayerdexError

# In the order of the help page; each is loaded from `layerdex.cli.commands.NAME`.
_COMMANDS = (
    "demo",
    "index",
    "search",
    "classify",
    "evaluate",
    "layers",
    "probe",
    "transform",
    "accelerate",
    "tune",
    "dedup",
    "suspects",
    "labels",
    "get",
    "delete",
    "export",
    "info",
    "backup",
    "restore",
    "compact",
    "verify",
    "repair",
    "doctor",
)
# What a shell reports for a process that SIGINT or SIGTERM ended.
_INTERRUPTED, _TERMINATED = 130, 143
_OF_WRITING = {EAGAIN, EBADF, ECONNRESET, EDQUOT, EFBIG, EINVAL, EIO, ENOSPC, EPERM}
"""What writing to an open file, as standard output is, may end with (write(2))."""


class CommandGroup(click.Group):
    """Imports a command's file when it is asked for, so that help and errors are fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"layerdex.cli.commands.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if close := difflib.get_close_matches(args[0], _COMMANDS, 1):
                raise click.UsageError(f"{error} Did you mean {close[0]}?", ctx) from error
            raise

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _exits():  # help pages are printed here
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        from layerdex.limits import NUMPY, check_limits

        with _exits(), _ended_by_sigterm():
            check_limits(NUMPY)  # which ends the process if it gets too little
            return super().invoke(ctx)


@contextmanager
def _exits() -> Iterator[None]:
    """Turn errors into one line on stderr and an exit code."""
    try:
        yield
    except LayerdexError as error:
        _print_error(error)
        raise click.exceptions.Exit(error.exit_code) from error
    except click.ClickException as error:  # click prints it, with what the user has typed
        vars(error).update(message=escape(error.message, keep="\n\t"))
        raise
    except BrokenPipeError as error:
        # A reader such as `head` has closed the pipe: nothing may be flushed to it any more.
        _drop_output()
        raise click.exceptions.Exit(0) from error
    except OSError as error:
        click.echo(escape(f"Error: {_describe(error)}"), err=True)
        _drop_output()
        raise click.exceptions.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        # A second Ctrl-C, while Python shuts down, would print a traceback of whatever it met.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        is_terminated = isinstance(interrupt, _Terminated)
        what = "Terminated" if is_terminated else "Interrupted"
        click.echo("; ".join((what, *map(str, interrupt.args))), err=True)
        raise click.exceptions.Exit(_TERMINATED if is_terminated else _INTERRUPTED) from interrupt
    except (click.Abort, click.exceptions.Exit):
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        from layerdex.limits import to_resource_error

        if (missing := to_resource_error(error)) is None:
            raise
        _print_error(missing)
        raise click.exceptions.Exit(missing.exit_code) from error


def _describe(error: OSError) -> str:
    """Return what an error of the operating system means."""
    reason = error.strerror or str(error)
    if error.filename:
        return f"cannot use {error.filename}: {reason}"
    if isinstance(error, FileNotFoundError):  # paths are relative to it
        return "the current directory is not there any more: change to another one"
    return f"cannot write the output: {reason}" if error.errno in _OF_WRITING else reason


def _print_error(error: LayerdexError) -> None:
    message = escape(str(error), keep="\n" if isinstance(error, FilterSyntaxError) else "")
    click.secho(f"Error: {message}", err=True, fg="red" if sys.stderr.isatty() else None)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: uncommitted work is dropped."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    def raise_it(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, raise_it)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", package_name="layerdex")
def main() -> None:
    """Search, classify and deduplicate text at any layer of a BERT-family encoder.

    Each text runs through the encoder once, and a vector is stored per layer. Layer 0 is the
    embedding output, 1 to N are the encoder blocks, and -1 is the deepest.

    \b
    Try it:      layerdex demo
    Your data:   layerdex index my-index reviews.jsonl
                 layerdex search my-index "battery died after a week"
                 layerdex evaluate my-index --save-best
    More:        layerdex COMMAND --help
    """
