"""The facade: what the command line and Python users see of an index.

`Index` makes and opens an index, fills it and looks after it; `View` asks. May import `search`,
`indexer`, `storage` and the lowest floor. Start reading at `facade` and `view`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from layerdex.index.facade import Index

if TYPE_CHECKING:
    from layerdex.index.tasks import LabelTask, PairTask, RetrievalTask
    from layerdex.index.view import View

__all__ = ["Index", "LabelTask", "PairTask", "RetrievalTask", "View"]


def __getattr__(name: str) -> Any:
    # On first use: `layerdex get` must not pay for what evaluates.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"layerdex.index.{'view' if name == 'View' else 'tasks'}"), name)
