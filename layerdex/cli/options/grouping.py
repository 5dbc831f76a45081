"""Several options as one decorator, and their values as one object."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What an option is to a command's function."""


def combine(*decorators: Decorator) -> Decorator:
    """Return a decorator that applies several, so that a help page lists them in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.reduce(lambda made, add: add(made), reversed(decorators), function)

    return decorate


def collect(kind: type[Any], parameter: str) -> Decorator:
    """Return a decorator that gives a command one object for the options of a dataclass.

    Parameters with the names of the fields of ``kind`` are replaced by an instance, ``parameter``.
    """
    names = [field.name for field in fields(kind)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **parameters: Any) -> Any:
            own = {name: parameters.pop(name) for name in names if name in parameters}
            return function(*arguments, **parameters, **{parameter: kind(**own)})

        return call

    return decorate
