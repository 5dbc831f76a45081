"""What each precision makes of unit vectors, in NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import StoredPrecision


def rounded(vectors: NDArray[np.float32], precision: StoredPrecision) -> NDArray[np.floating]:
    """Return vectors, (…, width), as an index keeps them: int8 as whole numbers up to 127."""
    match precision:
        case StoredPrecision.FLOAT16:
            return vectors.astype(np.float16)
        case StoredPrecision.FLOAT32:
            return vectors
        case StoredPrecision.INT8:
            largest = np.abs(vectors).max(axis=-1, keepdims=True).astype(np.float64)
            whole = np.round(vectors / largest * 127) + 0.0  # no negative zeros
            return np.asarray(whole, dtype=np.float32)


def decoded(vectors: NDArray[np.float32], precision: StoredPrecision) -> NDArray[np.float64]:
    """Return the unit vectors that come back."""
    kept = rounded(vectors, precision).astype(np.float64)
    return np.asarray(kept / np.linalg.norm(kept, axis=-1, keepdims=True))
