"""What is below a folder: files to read, what cannot be read, and what is left out on purpose."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from layerdex.indexer.readers.streams import describe_error
from layerdex.storage.directory import SEGMENTS, is_index

HIDDEN = "hidden files and folders"
INDEXES = "indexes"
LINKED_FOLDERS = "links to folders"
NO_FILES = "pipes, sockets and devices"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to read, or what cannot be read because of a ``fault``.

    ``is_file`` is False where it may be a folder, so that nobody knows which files are below it.
    """

    path: Path
    fault: str | None = None
    is_file: bool = True


class Listing:
    """The entries below a folder, in the order of their paths.

    Hidden files, indexes, links to folders and whatever is no file are left out; ``left_out``
    counts them by kind.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.left_out: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries; an error of the system becomes the fault of one.

        Raises `OSError` only if the root itself cannot be listed.
        """
        open_folders = [self._scan(self._root)]
        while open_folders:
            found = next(open_folders[-1], None)
            if found is None:
                open_folders.pop()
            elif isinstance(found, Entry):
                yield found
            else:
                open_folders.append(self._scan(Path(found.path)))

    def _scan(self, folder: Path) -> Iterator[Entry | os.DirEntry[str]]:
        """Yield the entries of one folder, and its folders themselves."""
        try:
            if folder != self._root and holds_index(folder):
                self.left_out[INDEXES] += 1
                return
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if folder == self._root:
                raise
            yield Entry(
                folder, f"the folder cannot be read: {describe_error(error)}", is_file=False
            )
            return
        for entry in found:
            if entry.name.startswith("."):
                self.left_out[HIDDEN] += 1
                continue
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
            except OSError as error:  # of a system that does not list what kind an entry is
                fault = f"cannot be read: {describe_error(error)}"
                yield Entry(Path(entry.path), fault, is_file=False)
                continue
            if is_folder:
                yield entry
            elif (one := self._examine(entry)) is not None:
                yield one

    def _examine(self, entry: os.DirEntry[str]) -> Entry | None:
        """Return what is not a folder itself, None where it is left out."""
        path = Path(entry.path)
        try:
            mode = entry.stat().st_mode if entry.is_symlink() or not entry.is_file() else None
        except OSError as error:
            what = "a link that leads nowhere" if entry.is_symlink() else "cannot be read"
            return Entry(path, f"{what}: {describe_error(error)}")
        if mode is None or stat.S_ISREG(mode):
            return Entry(path)
        self.left_out[LINKED_FOLDERS if stat.S_ISDIR(mode) else NO_FILES] += 1
        return None


def holds_index(folder: Path) -> bool:
    """Return whether a folder is an index."""
    return is_index(folder) and (folder / SEGMENTS).is_dir()
