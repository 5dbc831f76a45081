"""How plain data name the transform of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerdex.choices import TransformName

if TYPE_CHECKING:
    from layerdex.search.targets import SearchTarget


def transform_of(target: SearchTarget) -> dict[str, str]:
    """Return the field of a target's transform: none where vectors are plain."""
    transform = target.transform
    return {} if transform is TransformName.NONE else {"transform": transform.value}
