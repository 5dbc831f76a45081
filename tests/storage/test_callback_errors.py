"""Errors of the callbacks of a caller: they are not taken for damage of the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.errors import DocumentNotFoundError, StorageError
from tests.storage.corpora import rows


def test_callback_that_asks_for_an_unknown_id_is_told_so(index: Index) -> None:
    index.add(rows(3))
    asked: list[str] = []

    def on_found(_: object, read: Any) -> None:
        asked.extend(document.id for document in read(["d1"]))
        list(read(["d2", "d77"]))

    with pytest.raises(DocumentNotFoundError, match="'d77'"):
        index.deduplicate(on_result=on_found)
    assert asked == ["d1"]


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), "é".encode])
def test_error_of_a_callback_that_writes_elsewhere_is_its_own(index: Index, error: Any) -> None:
    index.add(rows(3))

    def write(*_: object) -> None:
        if isinstance(error, Exception):
            raise error
        error("ascii")

    for question in (
        lambda: index.deduplicate(on_progress=write),
        lambda: index.deduplicate(on_result=write),
        lambda: index.verify(on_progress=write),
    ):
        with pytest.raises((BrokenPipeError, UnicodeEncodeError)):
            question()


def test_file_that_a_callback_misses_is_no_damage_of_the_index(index: Index) -> None:
    index.add(rows(3))

    def on_found(*_: object) -> None:
        Path("/nowhere/at/all").read_bytes()

    with pytest.raises(StorageError, match="/nowhere/at/all"):
        index.deduplicate(on_result=on_found)
