"""What the system says of the file system that a file is on."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

# Their inodes last and their times of change are set by the kernel alone. Not among them, for one:
# vfat and many FUSE file systems make inodes up; squashfs and other images bring the times that
# their maker chose; overlayfs shows whatever is below it; tmpfs does not note each change of a
# mapped page.
_KEEP_INODES = frozenset(("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "xfs", "zfs"))
_LOOP_DEVICE = "7:"
_ESCAPE = re.compile(r"\\([0-7]{3})")


def keeps_inodes(path: Path) -> bool:
    """Return whether inode and time of change tell a file from any other that was at its path.

    False where nothing is known, and for what is mounted read-only or from a file, as images are.
    """
    try:
        resolved = path.resolve()
        # Read each time, as a long-lived process sees mounts come and go.
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    kind, device, options = _find_mount(mounts, resolved)
    is_image = device.startswith(_LOOP_DEVICE) or "ro" in options
    return kind in _KEEP_INODES and not is_image


def _find_mount(mounts: str, path: Path) -> tuple[str, str, list[str]]:
    """Return type, device number and options of the mounted file system that has ``path``.

    See proc_pid_mountinfo(5): "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw".
    """
    longest, found = -1, ("", "", [""])
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(" "), after.split(" ")
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), words[4])
        # Of two mounts on one point the later hides the earlier.
        if path.is_relative_to(point) and len(point) >= longest:
            longest, found = len(point), (kind[0], words[2], words[5].split(","))
    return found


@cache
def boot_id() -> str:
    """Return what this start of the system is called, or an empty string."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
