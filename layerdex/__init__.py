"""Layerdex: search, classify and deduplicate text at any layer of a BERT-family encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerdex.index import Index

__version__ = "0.1.0"

__all__ = ["Index", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `layerdex --help` must not pay for SQLAlchemy and NumPy.
    if name == "Index":
        from layerdex.index import Index

        return Index
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
