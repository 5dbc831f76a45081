"""A model of a disk that may lose what was not flushed: from recorded events to contents."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from tests.storage.recorder import Event

_SECTOR = 512


@dataclass
class File:
    """``flushed`` are the contents at the last flush, ``waiting`` the changes since then."""

    now: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)

    def change(self, offset: int, data: bytes | None) -> None:
        _change(self.now, offset, data)
        self.waiting.append((offset, data))

    def flush(self) -> None:
        self.flushed, self.waiting = bytes(self.now), []


@dataclass
class Folder:
    """Names as a program sees them, those at the last flush, and the changes since then."""

    now: dict[str, Node] = field(default_factory=dict)
    flushed: dict[str, Node] = field(default_factory=dict)
    waiting: list[dict[str, Node | None]] = field(default_factory=list)

    def change(self, names: dict[str, Node | None]) -> None:
        _rename(self.now, names)
        self.waiting.append(names)

    def flush(self) -> None:
        self.flushed, self.waiting = dict(self.now), []


Node = File | Folder


@dataclass(frozen=True)
class Loss:
    """Which of the unflushed changes of names and contents survive a power loss.

    ``name_survives`` and ``content_survives`` are called once per change. The latter returns a
    share: a write of which half survives is cut at a sector.
    """

    name: str
    name_survives: Callable[[], bool]
    content_survives: Callable[[], float]


def losses(seeds: range) -> Iterator[Loss]:
    """Yield the ways to lose unflushed changes, one random way per seed."""
    yield Loss("all is lost", lambda: False, lambda: 0)
    yield Loss("names stay", lambda: True, lambda: 0)
    yield Loss("contents stay", lambda: False, lambda: 1)
    for seed in seeds:
        random = np.random.default_rng(seed)
        yield Loss(
            f"torn, seed {seed}",
            lambda random=random: bool(random.random() < 0.5),  # type: ignore[misc]
            lambda random=random: float(random.choice([0, 0.5, 1])),  # type: ignore[misc]
        )


class Disk:
    """A folder with the history of its changes."""

    def __init__(self, folder: Path | None = None) -> None:
        """Start with the contents of ``folder``, all flushed, or with nothing."""
        self.root = Folder() if folder is None else _read(folder)

    def apply(self, event: Event) -> None:
        """Apply a recorded event."""
        path = PurePosixPath(event.path)
        match event.step:
            case "create":
                self._folder(path).change({path.name: File()})
            case "mkdir":
                self._folder(path).change({path.name: Folder()})
            case "unlink":
                self._folder(path).change({path.name: None})
            case "rename":
                target = PurePosixPath(event.target)
                assert path.parent == target.parent  # one change of one folder
                node = self._node(path)
                self._folder(path).change({path.name: None, target.name: node})
            case "write":
                self._file(path).change(event.offset, event.data)
            case "truncate":
                self._file(path).change(event.offset, None)
            case "flush":
                self._node(path).flush()

    def contents(self) -> dict[str, bytes | None]:
        """Return what a program sees: bytes by path, None for a folder."""
        return dict(_walk(self.root, "", lambda folder: folder.now, lambda file: bytes(file.now)))

    def after(self, loss: Loss) -> dict[str, bytes | None]:
        """Return the contents after a power loss."""

        def names(folder: Folder) -> dict[str, Node]:
            left = dict(folder.flushed)
            for change in folder.waiting:
                if loss.name_survives():
                    _rename(left, change)
            return left

        def data(file: File) -> bytes:
            left = bytearray(file.flushed)
            for offset, written in file.waiting:
                share = loss.content_survives()
                if share == 1 or (written is None and share > 0):
                    _change(left, offset, written)
                elif written is not None and share > 0:
                    n = (int(len(written) * share) + offset) // _SECTOR * _SECTOR - offset
                    _change(left, offset, written[: max(0, n)])
            return bytes(left)

        return dict(_walk(self.root, "", names, data))

    def _node(self, path: PurePosixPath) -> Node:
        node: Node = self.root
        for name in path.parts:
            assert isinstance(node, Folder)
            node = node.now[name]
        return node

    def _folder(self, path: PurePosixPath) -> Folder:
        node = self._node(path.parent)
        assert isinstance(node, Folder)
        return node

    def _file(self, path: PurePosixPath) -> File:
        node = self._node(path)
        assert isinstance(node, File)
        return node


def lay_out(contents: dict[str, bytes | None], root: Path) -> None:
    """Create ``root`` and write the contents that `Disk.after` returned to it."""
    root.mkdir()
    for name, data in contents.items():
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)


def digest(contents: dict[str, bytes | None]) -> bytes:
    """Return a digest of contents."""
    total = hashlib.blake2b()
    for name, data in sorted(contents.items()):
        size = None if data is None else len(data)
        total.update(repr((name, size)).encode() + (data or b""))
    return total.digest()


def _read(folder: Path) -> Folder:
    found = Folder()
    for path in folder.iterdir():
        if path.is_dir():
            found.now[path.name] = _read(path)
        else:
            data = path.read_bytes()
            found.now[path.name] = File(bytearray(data), data)
    found.flush()
    return found


def _walk(
    folder: Folder,
    prefix: str,
    names: Callable[[Folder], dict[str, Node]],
    data: Callable[[File], bytes],
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in names(folder).items():
        if isinstance(node, File):
            yield prefix + name, data(node)
        else:
            yield prefix + name, None
            yield from _walk(node, f"{prefix}{name}/", names, data)


def _rename(names: dict[str, Node], change: dict[str, Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _change(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(max(0, offset - len(content))))
    else:
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
