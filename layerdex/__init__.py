"""Layerdex: search, classify and deduplicate text at any layer of a BERT-family encoder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerdex.index import Index, LabelTask, PairTask, RetrievalTask, View
    from layerdex.indexer.readers import Dialect, Fields
    from layerdex.indexer.training.plan import Plan
    from layerdex.options import EncoderOptions, RuntimeOptions, TextFile
    from layerdex.progress import progress_bar
    from layerdex.search.evaluation.report import classification_report
    from layerdex.search.filters import Filter

__version__ = "0.1.0"

__all__ = [
    "Dialect",
    "EncoderOptions",
    "Fields",
    "Filter",
    "Index",
    "LabelTask",
    "PairTask",
    "Plan",
    "RetrievalTask",
    "RuntimeOptions",
    "TextFile",
    "View",
    "__version__",
    "classification_report",
    "progress_bar",
]

_OUTSIDE_THE_FACADE = {
    "Dialect": "layerdex.indexer.readers",
    "EncoderOptions": "layerdex.options",
    "Fields": "layerdex.indexer.readers",
    "Filter": "layerdex.search.filters",
    "Plan": "layerdex.indexer.training.plan",
    "RuntimeOptions": "layerdex.options",
    "TextFile": "layerdex.options",
    "classification_report": "layerdex.search.evaluation.report",
    "progress_bar": "layerdex.progress",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # Imported on first use: `layerdex --help` must not pay for SQLAlchemy and NumPy.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_OUTSIDE_THE_FACADE.get(name, "layerdex.index")), name)
