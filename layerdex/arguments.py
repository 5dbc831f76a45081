"""Checks of arguments: each returns the converted value or raises `OptionError`."""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import reprlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import SupportsFloat, SupportsIndex, TypeVar

from layerdex.errors import OptionError

Choice = TypeVar("Choice", bound=StrEnum)
Item = TypeVar("Item")

TAB_NAMES = ("tab", "\\t")
"""What a shell's user can type for a tab."""


def to_choice(kind: type[Choice], value: str) -> Choice:
    """Convert a value to an enum; the error lists the members."""
    try:
        return kind(value)
    except ValueError as error:
        raise OptionError(f"{format_value(value)} is not one of {', '.join(kind)}") from error


def to_path(value: str | os.PathLike[str], *, what: str) -> Path:
    """Return a path; ``what`` begins the error message for a value that cannot be one."""
    if not is_path(value):
        raise OptionError(f"{what}, not {format_value(value)}")
    return Path(value)


def expand_home(path: Path) -> Path:
    """Return a path with the home folder in place of ``~`` or ``~user`` at its start.

    Raises `OptionError` where there is none.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise OptionError(f"{path}: there is no home folder of that name") from error


def to_delimiter(value: str) -> str:
    """Return the one character between the cells of a table; a tab may be named."""
    if value in TAB_NAMES:
        return "\t"
    if len(value) != 1 or value in '"\r\n\0':
        raise OptionError(
            f"delimiter must be one character that is not a quote, or tab, "
            f"got {format_value(value)}"
        )
    return value


def to_encoding(value: str) -> str:
    """Return Python's name for an encoding of text; a byte order mark is recognised anyway."""
    try:
        "".encode(value)  # refuses codecs that are not encodings of text, such as base64
        name = codecs.lookup(value).name
    except (LookupError, ValueError):
        raise OptionError(
            f"{format_value(value)} is not an encoding that Python knows; "
            f"names are utf-8, utf-16-le, cp1252, latin-1, ..."
        ) from None
    return "utf-8" if name == "utf-8-sig" else name


def check_unicode(path: Path, *, what: str) -> Path:
    """Return a path that is UTF-8: libraries in Rust and C++ open no other.

    Raises `OptionError`, which ``what`` begins.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise OptionError(
            f"{what} {os.fsencode(path)!r} is not UTF-8, which the libraries that read it need: "
            "rename it"
        ) from error
    return path


def is_path(value: object) -> bool:
    """Return whether the operating system could have a file with that name."""
    try:
        # Path("") would be the working directory, and the system's calls end at a NUL.
        return value != "" and b"\0" not in os.fsencode(Path(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # not a path, an array, a lone surrogate
        return False


def to_list(values: Iterable[Item], *, what: str) -> list[Item]:
    """Return an iterable's items; ``what`` begins the error message for anything else.

    Mappings, data frames and arrays of more than one dimension are refused, as their items are the
    names of their columns, or rows.
    """
    shape = getattr(values, "shape", None)
    if isinstance(values, Mapping) or (isinstance(shape, tuple) and len(shape) != 1):
        raise OptionError(f"{what}, not {_describe_table(values, shape)}")
    try:
        items = iter(values)
    except TypeError as error:
        raise OptionError(f"{what}, not {format_value(values)}") from error
    return list(items)


def _describe_table(values: object, shape: tuple[object, ...] | None) -> str:
    kind = type(values).__name__
    return kind if shape is None else f"{kind} of {len(shape)} dimensions"


def check_type(value: object, kind: type | tuple[type, ...], *, what: str) -> None:
    """Check the class of a value; ``what`` begins the error message for another class."""
    if not isinstance(value, kind):
        raise OptionError(f"{what}, not {format_value(value)}")


def check_callbacks(**callbacks: object) -> None:
    """Check that each is callable or None, before any work is done."""
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            raise OptionError(f"{name} must be callable, got {format_value(callback)}")


def check_count(name: str, value: object, *, least: int = 1) -> int:
    """Return a whole number that is at least ``least``."""
    is_iterable = isinstance(value, Iterable)  # NumPy's arrays have an __index__ that fails
    if isinstance(value, bool) or is_iterable or not isinstance(value, SupportsIndex):
        raise OptionError(f"{name} must be a whole number, got {format_value(value)}")
    if (count := value.__index__()) < least:
        raise OptionError(f"{name} must be at least {least}, got {format_value(count)}")
    return count


def check_between(name: str, value: object, low: float, high: float) -> float:
    """Return a number between two bounds, both included."""
    number = math.nan
    if isinstance(value, SupportsFloat) and not isinstance(value, bool):
        # Arrays have a __float__ that fails, and an integer can be beyond a float.
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            number = float(value)
    if not low <= number <= high:
        raise OptionError(f"{name} must be between {low:g} and {high:g}, got {format_value(value)}")
    return number


def format_value(value: object) -> str:
    """Return a value as error messages show it: on one line, shortened where it is long."""
    return " ".join(reprlib.repr(value).split())
