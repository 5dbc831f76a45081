"""A disk that is really full: a small tmpfs, where this system lets a test mount one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_UNSHARE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
_MOUNT = "mount -t tmpfs -o size=900k none "


def _can_mount(folder: Path) -> bool:
    try:
        tried = subprocess.run(
            [*_UNSHARE, f'{_MOUNT} "$0"', str(folder)], capture_output=True, check=False
        )
    except OSError:
        return False
    return tried.returncode == 0


def test_full_disk_is_one_error_and_room_for_the_rest_completes_the_run(tmp_path: Path) -> None:
    if not _can_mount(tmp_path):
        pytest.skip("this system does not allow mounting a tmpfs")
    command = f'{_MOUNT} "$1" && exec "$0" -W error -m tests.storage.small_disk "$1"'
    child = subprocess.run(
        [*_UNSHARE, command, sys.executable, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    n_committed, n_full = (int(word) for word in child.stdout.split())
    assert 0 < n_committed < 80
    assert n_full > 1
    assert list(tmp_path.iterdir()) == []  # everything was in the mount
