"""The names of the package, which are imported on first use."""

from __future__ import annotations

import layerdex


def test_every_public_name_is_listed_for_completion() -> None:
    assert {*layerdex.__all__} <= {*dir(layerdex)}
    assert all(hasattr(layerdex, name) for name in layerdex.__all__)
