"""The directory in which a writer works, which is not always the one at its path.

A directory can be renamed, and another put in its place, while a writer works. So a writer holds
its directory open, changes files there and nowhere else, and compares the two before each commit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerdex.errors import StorageError
from layerdex.storage.descriptors import identity, opened


class Place:
    """A directory that is held open, and files in it that were found there."""

    def __init__(self, path: Path) -> None:
        """Open the directory that is at ``path`` now. Raises OSError."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._held = {path: identity(os.fstat(self.descriptor))}
        through = Path(f"/proc/self/fd/{self.descriptor}")
        self.folder = through if through.is_dir() else path
        """A path to the held directory, wherever that is; ``path`` itself if there is no /proc."""

    def hold(self, name: str, descriptor: int) -> None:
        """Compare a file, too; ``descriptor`` is open, so that its inode is not used again."""
        self._held[self.path / name] = identity(os.fstat(descriptor))

    def hold_catalog(self, name: str) -> None:
        """Compare the catalog, too, which must be open in SQLite as long as the place is used."""
        # For writing: overlayfs may give a file another inode then.
        with opened(self.folder / name, os.O_RDWR) as descriptor:
            self.hold(name, descriptor)

    def is_same(self) -> bool:
        """Return whether directory and files are still at their paths."""
        return self._find_other() is None

    def check(self) -> None:
        """Raise `StorageError` unless directory and files are still at their paths."""
        if (other := self._find_other()) is not None:
            where = "" if other != self.path else self._moved_to()
            raise StorageError(
                f"{other} was moved, removed or replaced while {self.path} was written to{where}: "
                "nothing more is committed; run the same command again"
            )

    @contextmanager
    def unmoved(self) -> Iterator[None]:
        """Check before and after a change; also after an error, which a move may have caused."""
        self.check()
        try:
            yield
        except Exception as error:
            self.check()
            if isinstance(error, OSError) and isinstance(error.filename, str | Path):
                error.filename = self._named(Path(error.filename))
            raise
        self.check()

    def close(self) -> None:
        """Close the directory."""
        os.close(self.descriptor)

    def _named(self, used: Path) -> str:
        """Return the path by which users know a file."""
        if used.is_relative_to(self.folder):
            return str(self.path / used.relative_to(self.folder))
        return str(used)

    def _find_other(self) -> Path | None:
        for path, held in self._held.items():
            try:
                found = identity(path.stat())
            except (FileNotFoundError, NotADirectoryError):
                return path
            if found != held:
                return path
        return None

    def _moved_to(self) -> str:
        """Return where what was committed before is now, if the system says so."""
        with suppress(OSError):
            moved_to = Path(f"/proc/self/fd/{self.descriptor}").readlink()
            if moved_to.is_dir():
                return f" (what was committed is in {moved_to})"
        return ""
