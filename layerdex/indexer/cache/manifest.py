"""The manifest of a cache folder: the checksums of its files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from layerdex.indexer.cache.location import check_own, close_to_others, write_whole
from layerdex.indexer.cache.sealed_json import dump_sealed, load_sealed
from layerdex.storage.files import checksum, open_regular

_NAME = "manifest.json"
_FOLDER, _FILES = "folder", "crc32"


class Manifest:
    """The files that a cache folder is known to hold, by their paths in it, with CRC-32 checksums.

    A file that is not listed is not used: it was not finished, or is not ours.
    """

    def __init__(self, folder: Path) -> None:
        """Read the manifest of ``folder``.

        Raises OSError, also if others may write to the folder, or ValueError, KeyError or TypeError
        if the manifest is damaged or that of a folder with another name.
        """
        check_own(folder)
        check_own(folder / _NAME)
        self.folder = folder
        self._checksums = _read(folder)

    @staticmethod
    def create(folder: Path, *, name: str) -> None:
        """List all files that ``folder`` has now, and close it to others. Raises OSError.

        ``name`` is the name that the folder will have, which stands for what its content is of.
        """
        close_to_others(folder)
        checksums = {file: _checksum(folder / file) for file in _list_files(folder)}
        _write(folder, checksums, name=name)

    def check(self, name: str) -> Path:
        """Return the path of a listed file, after comparing it with its checksum.

        Raises ValueError if it differs or is not listed, or OSError.
        """
        path = self.folder / name
        check_own(path)
        if self._checksums.get(name) != _checksum(path):
            raise ValueError(f"{path} has the wrong checksum")
        return path

    def holds(self, folder: str) -> bool:
        """Return whether a folder in this one has files, all of them listed and as listed."""
        names = [f"{folder}/{name}" for name in _list_files(self.folder / folder)]
        try:
            check_own(self.folder / folder)
            return bool(names) and all(self.check(name).is_file() for name in names)
        except (OSError, ValueError):
            return False

    def lists(self, folder: str) -> bool:
        """Return whether files in a folder of this one are listed, as they are or not."""
        return any(name.startswith(f"{folder}/") for name in self._checksums)

    def add(self, source: Path, name: str) -> None:
        """Move a folder of files here in place of an older one, and list it. Raises OSError."""
        close_to_others(source)
        with self._locked():
            self._discard(name)
            source.rename(self.folder / name)
            self._list(name)

    def write(self, name: str, data: bytes) -> None:
        """Write a file in place of an older one, and list it. Raises OSError."""
        with self._locked():
            self._discard(name)
            write_whole(self.folder / name, data)
            self._list(name)

    def remove(self, name: str) -> None:
        """Remove a file or a folder of files. Raises OSError."""
        with self._locked():
            self._discard(name)

    def _list(self, name: str) -> None:
        path = self.folder / name
        files = [f"{name}/{file}" for file in _list_files(path)] if path.is_dir() else [name]
        for file in files:
            self._checksums[file] = _checksum(self.folder / file)
        _write(self.folder, self._checksums, name=self.folder.name)

    def _discard(self, name: str) -> None:
        """Remove what is listed first from the list, so that no reader takes it for damaged."""
        gone = [file for file in self._checksums if file == name or file.startswith(f"{name}/")]
        if gone:
            for file in gone:
                del self._checksums[file]
            _write(self.folder, self._checksums, name=self.folder.name)
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other process change the list meanwhile, and take in what others have listed."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                self._checksums = _read(self.folder)
            yield
        finally:
            os.close(descriptor)


def _read(folder: Path) -> dict[str, int]:
    with open_regular(folder / _NAME) as file:
        content = load_sealed(file.read())
    if content[_FOLDER] != folder.name:
        raise ValueError(f"{folder} has the manifest of {content[_FOLDER]!r}")
    return {str(name): int(value) for name, value in content[_FILES].items()}


def _write(folder: Path, checksums: dict[str, int], *, name: str) -> None:
    write_whole(folder / _NAME, dump_sealed({_FOLDER: name, _FILES: checksums}))


def _list_files(folder: Path) -> Iterable[str]:
    """Return the paths of all files below a folder but a manifest, relative to it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in files if path.name != _NAME)


def _checksum(path: Path) -> int:
    with open_regular(path) as file:
        return checksum(file)
