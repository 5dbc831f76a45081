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


@pytest.mark.parametrize("kinds", [["inodes", "bind", "restored", "full"], ["overlay"]], ids=str)
def test_an_index_in_a_mount(tmp_path: Path, kinds: list[str]) -> None:
    """Of several kinds in one process, which names the one that failed."""
    possible = [kind for kind in kinds if _can_mount(tmp_path, kind)]
    if not possible:
        pytest.skip(f"this system does not allow these mounts: {kinds}")
    script = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.storage.mounted",
        str(tmp_path),
        *possible,
    ]
    child = subprocess.run(
        [*_UNSHARE, *script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
