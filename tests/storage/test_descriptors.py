"""Descriptors of catalogs: few, none leaked, and nobody waits for another thread's."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from layerdex.storage.descriptors import opened


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "catalog"
    path.write_bytes(b"first")
    return path


def descriptors_below(folder: Path) -> list[str]:
    """Return what this process has open below a folder, removed files included."""
    targets = []
    for entry in os.scandir("/proc/self/fd"):
        try:
            targets.append(os.readlink(entry.path))  # noqa: PTH115
        except FileNotFoundError:  # the one of this loop
            continue
    return [target for target in targets if target.startswith(str(folder))]


def test_descriptor_that_is_in_use_keeps_no_other_thread_waiting(catalog: Path) -> None:
    read: list[bytes] = []

    def use() -> None:
        with opened(catalog) as descriptor:
            read.append(os.pread(descriptor, 5, 0))

    other = threading.Thread(target=use, daemon=True)
    with opened(catalog):
        other.start()
        other.join(timeout=10)
        assert read == [b"first"]


def test_descriptor_for_writing_serves_readers_too(catalog: Path) -> None:
    with opened(catalog, os.O_RDWR) as written, opened(catalog) as read:
        assert written == read
    assert descriptors_below(catalog.parent) == [str(catalog)]


def test_descriptor_of_a_removed_catalog_is_closed_when_nobody_uses_it(catalog: Path) -> None:
    with opened(catalog) as first:
        catalog.unlink()
        catalog.write_bytes(b"other")
        with opened(catalog) as second:
            assert os.pread(second, 5, 0) == b"other"
        assert os.pread(first, 5, 0) == b"first"
        assert len(descriptors_below(catalog.parent)) == 2
    catalog.unlink()
    catalog.write_bytes(b"third")
    with opened(catalog) as third:
        assert os.pread(third, 5, 0) == b"third"
    assert descriptors_below(catalog.parent) == [str(catalog)]


def test_catalog_that_is_replaced_while_it_is_opened_leaks_nothing(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalog.with_name("known")
    known.write_bytes(b"known")
    with opened(known):
        pass
    real = os.open

    def overtaken(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if path == catalog and known.exists():
            known.rename(catalog)
        return real(path, flags, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", overtaken)
        with opened(catalog) as descriptor:
            assert os.pread(descriptor, 5, 0) == b"known"
    catalog.unlink()
    catalog.write_bytes(b"third")
    with opened(catalog):
        pass
    assert descriptors_below(catalog.parent) == [str(catalog)]
