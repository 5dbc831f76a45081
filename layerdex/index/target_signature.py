"""The signatures of methods that take a target: each keyword argument has its name in them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from functools import wraps
from typing import Any, Final, TypeVar, cast

from layerdex.index.target_options import TargetArguments, TargetOptions
from layerdex.index.tasks import LabelTask, PairTask, RetrievalTask

_Method = TypeVar("_Method", bound=Callable[..., Any])

_OTHER_NAMES: Final = {
    "k": ("top_k", "topk", "n_neighbors", "n_neighbours", "n_results", "n", "limit"),
    "where": ("filter", "filters", "condition", "conditions"),
    "queries": ("query", "text", "texts"),
    "min_similarity": ("threshold", "min_score"),
    "min_confidence": ("threshold",),
    "layer": ("layers",),
}
"""What the keyword arguments are called in other libraries."""

_SECTION = """

{indent}The target, as in `at`: ``layer`` (such as 4, ``"0,3-6"`` or ``"all"``), ``fuse`` (``mean``,
{indent}``concat``, or ``rrf`` for search), ``transform`` (``none``, ``center``, ``whiten``) and
{indent}``where`` (such as ``"label=ham or year>2020"``).
{indent}"""


def takes_target(method: _Method) -> _Method:
    """Name the arguments of a target in a method's signature, instead of ``**target``.

    Notebooks complete and show what the signature says. A keyword argument that the method does not
    take is a `TypeError` that says what it does take.
    """
    signature = _with_target(inspect.signature(method))
    known = [name for name in signature.parameters if name != "self"]

    @wraps(method)
    def checked(*args: Any, **given: Any) -> Any:
        for name in given:
            if name not in signature.parameters:
                raise TypeError(_unexpected(method.__name__, name, known))
        return method(*args, **given)

    checked.__signature__ = signature  # type: ignore[attr-defined]
    if method.__doc__ and method.__name__ != "at":
        checked.__doc__ = method.__doc__.rstrip() + _SECTION.format(indent=" " * 8)
    return cast(_Method, checked)


def _with_target(signature: inspect.Signature) -> inspect.Signature:
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    defaults = {field.name: field.default for field in fields(TargetOptions)}
    target = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            # A plain value, which the signature shows as users write it.
            default=str(defaults[name]) if name == "transform" else (defaults[name] or None),
            annotation=annotation.__forward_arg__,
        )
        for name, annotation in TargetArguments.__annotations__.items()
    ]
    return signature.replace(parameters=[*own, *target])


def _unexpected(method: str, name: str, known: Collection[str]) -> str:
    message = f"{method}() got an unexpected keyword argument {name!r}"
    takes = f"it takes {', '.join(known)}"
    if method == "evaluate":
        for task in (LabelTask, RetrievalTask, PairTask):
            if name in task.__annotations__:
                return f"{message}: the task has it, evaluate({task.__name__}({name}=...)); {takes}"
    meant = [one for one in known if name in _OTHER_NAMES.get(one, ())]
    if meant := meant or difflib.get_close_matches(name, known, 1):
        return f"{message}: did you mean {meant[0]}? ({takes})"
    return f"{message}: {takes}"
