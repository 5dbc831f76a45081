"""An index from someone who means harm: nothing runs, nothing outside is touched, one clear error.

Damage is found by checksums (`test_damage.py`). Here they all fit.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.limited import run_limited
from tests.storage.hostile import (
    FORGERIES,
    assert_clear,
    use,
    use_forged,
)


def test_forged_catalog_is_a_clear_error_in_bounded_memory(
    sound: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    more = bool(request.config.getoption("--soak"))
    names = list(FORGERIES) if more else list(FORGERIES)[::3]
    outcome = run_limited(
        *(use_forged, sound, tmp_path / "index", names, more), memory_bytes=1 << 30, timeout_s=240
    )
    assert outcome.exit_code == 0
    assert outcome.grown_bytes < 300 << 20
    assert list(outcome.result) == names
    for name, found in outcome.result.items():
        assert found, name
        assert_clear(found)


def test_sound_index_is_refused_nothing(path: Path) -> None:
    assert use(path) == {}
