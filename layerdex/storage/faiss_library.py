"""The one place that imports FAISS."""

from __future__ import annotations

from typing import Any

from layerdex.errors import MissingPackageError


def load_faiss() -> Any:
    """Import FAISS; `MissingPackageError` names both builds where neither is installed."""
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError(
            "FAISS is not installed: pip install 'layerdex[cpu]' or, for NVIDIA GPUs, "
            "'layerdex[gpu]' (never both: they overwrite each other)"
        ) from error
    return faiss
