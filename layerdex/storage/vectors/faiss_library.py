"""The one place that imports FAISS."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from layerdex.errors import MissingPackageError


def load_faiss() -> Any:
    """Import FAISS, told to read no vector into memory that is larger than the machine's.

    `MissingPackageError` names both builds where neither is installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError(
            "FAISS is not installed: pip install 'layerdex[cpu]' or, for NVIDIA GPUs, "
            "'layerdex[gpu]' (never both: they overwrite each other)"
        ) from error
    # FAISS's own limit is 1 TiB (1.15; older ones have none). It holds for the whole process, so
    # it is never less than what a caller's own indexes may need.
    if hasattr(faiss, "set_deserialization_vector_byte_limit"):
        limit = min(faiss.get_deserialization_vector_byte_limit(), _memory_bytes())
        faiss.set_deserialization_vector_byte_limit(limit)
    return faiss


@cache
def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
