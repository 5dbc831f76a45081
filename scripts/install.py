"""Run ``pip install`` and say what it is at, on one line of a terminal, elsewhere every 10 s.

    python scripts/install.py -c constraints.txt .

All words are pip's. What pip prints is shown only if it fails. Nothing but the standard library is
imported, as nothing else is installed yet.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

_PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off")
_FETCHED = re.compile(r"Collecting (\S+)")
_INSTALLING = "Installing collected packages: "


class Progress:
    """What pip is at, printed now and then by a thread of its own."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._is_terminal = sys.stdout.isatty()
        self._n_fetched = 0
        self._fetched = ""
        self._n_before = _count_installed()
        self._n_unpacked = 0  # 0 until pip unpacks
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._thread.start()

    def read(self, line: str) -> None:
        """Take note of a line of pip's output."""
        if found := _FETCHED.match(line):
            self._n_fetched += 1
            self._fetched = found[1]
        elif line.startswith(_INSTALLING):
            self._n_unpacked = line.count(",") + 1

    def end(self, outcome: str) -> None:
        """Print how it ended and how long it took."""
        self._done.set()
        self._thread.join()
        self._print(f"{outcome} after {self._seconds} s")
        if self._is_terminal:
            print()

    @property
    def state(self) -> str:
        """What pip is at now."""
        if self._n_unpacked:
            n = max(0, _count_installed() - self._n_before)
            return f"{min(n, self._n_unpacked)} of {self._n_unpacked} packages unpacked"
        if self._n_fetched:
            return f"package {self._n_fetched} found, {self._fetched}"
        return "looking up packages"

    @property
    def _seconds(self) -> int:
        return round(time.monotonic() - self._started)

    def _show(self) -> None:
        while not self._done.wait(1 if self._is_terminal else 10):
            self._print(f"{self._seconds} s: {self.state}")

    def _print(self, text: str) -> None:
        if self._is_terminal:
            print(f"\r\x1b[K  {text[:76]}", end="", flush=True)
        else:
            print(f"  {text}", flush=True)


def _count_installed() -> int:
    return sum(1 for _ in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))


def install(words: list[str]) -> int:
    """Install what the words say, and return pip's exit status."""
    progress = Progress()
    lines = []
    with subprocess.Popen(
        [*_PIP, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as pip:
        for line in pip.stdout or ():
            lines.append(line)
            progress.read(line)
    status = pip.returncode
    progress.end("failed" if status else "installed")
    if status:
        sys.stderr.writelines(lines)
    return status


if __name__ == "__main__":
    sys.exit(install(sys.argv[1:]))
