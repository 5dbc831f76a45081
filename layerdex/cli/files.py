"""Files that commands write: checked before any work, and written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from layerdex.errors import OptionError


def check_outputs(index: Path, *paths: Path | None) -> None:
    """Raise `OptionError` for a file inside the index, or for two results in one file."""
    written = [path.resolve() for path in paths if path is not None]
    for path in written:
        if index.resolve() in path.parents:
            raise OptionError(f"{path} is inside the index: write elsewhere")
    if len(set(written)) < len(written):
        raise OptionError(f"two results cannot be written to one file, {written[0]}")


def write_json_lines(path: Path, values: Iterable[Any]) -> int:
    """Write one JSON object per line, and return how many; raises `StorageError`."""
    from layerdex.index.files import atomic_write

    n_values = 0
    with atomic_write(path) as written, written.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
            n_values += 1
    return n_values
