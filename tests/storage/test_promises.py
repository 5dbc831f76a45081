"""docs/durability.md names the tests of each promise; they exist."""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def test_files_named_by_the_promises_exist() -> None:
    text = (_ROOT / "docs" / "durability.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([\w/]*test_\w+\.py)`", text))
    assert len(names) > 15
    folders = {
        name: _ROOT if name.startswith("tests/") else Path(__file__).parent for name in names
    }
    assert {name for name in names if not (folders[name] / name).is_file()} == set()
