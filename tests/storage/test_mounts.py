"""Other kinds of mounts, where this system lets a test mount them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_UNSHARE = ["unshare", "--map-root-user", "--mount"]


def _can_mount(folder: Path, kind: str) -> bool:
    """Return whether a namespace of its own may mount a tmpfs, and an overlay in it."""
    script = 'mount -t tmpfs none "$0" && cd "$0" && mkdir l u w m'
    if kind == "overlay":
        script += " && mount -t overlay overlay -o userxattr,lowerdir=l,upperdir=u,workdir=w m"
    try:
        tried = subprocess.run(
            [*_UNSHARE, "sh", "-c", script, str(folder)], capture_output=True, check=False
        )
    except OSError:
        return False
    return tried.returncode == 0


@pytest.mark.parametrize("kind", ["inodes", "bind", "overlay", "restored", "full"])
def test_an_index_in_a_mount(tmp_path: Path, kind: str) -> None:
    if not _can_mount(tmp_path, kind):
        pytest.skip(f"this system does not allow this mount: {kind}")
    script = [sys.executable, "-W", "error", "-m", "tests.storage.mounted", kind, str(tmp_path)]
    child = subprocess.run(
        [*_UNSHARE, *script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
