"""What was learned from an index and is kept with it: safetensors files that the catalog names.

A head lies in ``heads/``, transforms lie in ``transforms/``; of each there is at most one.
"""

from __future__ import annotations

import os
import re
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from layerdex.errors import DamagedIndexError
from layerdex.storage.catalog.engine import translate_errors
from layerdex.storage.catalog.row_digests import damaged
from layerdex.storage.catalog.rows import read_setting
from layerdex.storage.catalog.schema import DOCUMENT, LIVE
from layerdex.storage.catalog.validation import is_head, is_transform
from layerdex.storage.files import make_folder, open_own, remove_tree, sync_folder, write_file

if TYPE_CHECKING:
    from layerdex.storage.snapshot import Snapshot
    from layerdex.storage.store import Store
    from layerdex.storage.writer import Writer

_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")
# Twenty times what two transforms of each layer of BERT-large take; a forged file that claims more
# is not read into memory to find that out.
_MOST_BYTES = 4 << 30

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ArtifactKind:
    """A kind of what is kept: ``name`` is the catalog's setting, ``words`` the command's.

    ``is_valid`` judges what the setting says of it.
    """

    name: str
    folder: str
    words: tuple[str, ...]
    is_valid: Callable[[object], bool]

    def remedy(self, *index: str) -> str:
        """Return the command that makes it anew."""
        return " ".join(("layerdex", self.words[0], *index, *self.words[1:]))


HEAD = ArtifactKind("head", "heads", ("probe", "--save"), is_head)
TRANSFORM = ArtifactKind("transform", "transforms", ("transform",), is_transform)
ARTIFACT_KINDS = (HEAD, TRANSFORM)


def save_artifact(
    store: Store, writer: Writer, kept: ArtifactKind, tensors: Tensors, record: Mapping[str, Any]
) -> None:
    """Keep tensors in place of those before; ``record`` go to the catalog, as JSON.

    The file is written and flushed under a new name before the catalog names it, with its size
    and CRC-32, so that a kill leaves the old one or the new one. Raises `StorageError` or
    `DamagedIndexError`.
    """
    from safetensors.numpy import save

    # safetensors writes an array's memory as it lies, whatever its order.
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    data = np.frombuffer(save(whole), dtype=np.uint8)
    folder, name = store.path / kept.folder, f"{uuid.uuid4().hex}.safetensors"
    with translate_errors(folder):
        _check_folder(folder)
        make_folder(folder)
        crc32 = write_file(folder / name, data)
        sync_folder(folder)
        writer.set(kept.name, {**record, "file": name, "size_bytes": len(data), "crc32": crc32})
        for entry in folder.iterdir():
            if entry.name != name:
                remove_tree(entry)


def remove_artifact(store: Store, writer: Writer, kept: ArtifactKind) -> None:
    """Forget what is kept, then remove its file. Raises as `save_artifact` does."""
    folder = store.path / kept.folder
    with translate_errors(folder):
        _check_folder(folder)
        writer.set(kept.name, None)
        remove_tree(folder)


def remove_unreferenced_artifacts(path: Path, connection: Connection) -> None:
    """Remove the files of what is kept that a killed writer of the index at ``path`` left behind.

    None of a kind is removed where the setting that names its file is damaged. Raises OSError.
    """
    for kept in ARTIFACT_KINDS:
        folder = path / kept.folder
        if folder.is_symlink() or not folder.is_dir():
            continue
        ours = [entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name)]
        if not ours:
            continue
        try:
            record = read_setting(connection, kept.name)
        except DamagedIndexError:
            continue
        if record is not None and not kept.is_valid(record):
            continue
        for entry in ours:
            if record is None or entry.name != record["file"]:
                remove_tree(entry)


def _check_folder(folder: Path) -> None:
    if folder.is_symlink():
        raise DamagedIndexError(f"{folder} is not a folder: nothing is written through it")


def read_artifact_record(snapshot: Snapshot, kept: ArtifactKind) -> dict[str, Any] | None:
    """Return what the catalog says of what is kept; None where there is nothing.

    Raises `DamagedIndexError` for a setting that describes none.
    """
    record: dict[str, Any] | None = snapshot.setting(kept.name)
    if record is not None and not kept.is_valid(record):
        raise damaged(f"the setting {kept.name!r}")
    return record


def load_artifact(store: Store, kept: ArtifactKind) -> tuple[Tensors, dict[str, Any]] | None:
    """Return tensors and record, checked against the catalog; None where there is nothing.

    Raises `DamagedIndexError` for a file that is missing, cut or changed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    while True:
        with store.read() as snapshot:
            record = read_artifact_record(snapshot, kept)
        if record is None:
            return None
        path = store.path / kept.folder / str(record["file"])
        data = read_artifact_file(store.path, kept, record)
        if data is not None:
            try:
                return load(data), record
            # Forged, checksum and all; a KeyError is for a type that NumPy does not have.
            except (SafetensorError, KeyError, TypeError, ValueError) as error:
                raise DamagedIndexError(_what_is_damaged(kept, path)) from error
        with store.read() as snapshot:  # another may have been saved meanwhile
            if snapshot.setting(kept.name) == record:
                raise DamagedIndexError(_what_is_damaged(kept, path))


def _what_is_damaged(kept: ArtifactKind, path: Path) -> str:
    return f"the {kept.name} {path} is damaged: run '{kept.remedy()}' again"


def read_artifact_file(path: Path, kept: ArtifactKind, record: Mapping[str, Any]) -> bytes | None:
    """Return the bytes of the file; None where they are not those of the catalog."""
    name = str(record["file"])
    if _NAME.fullmatch(name) is None:  # a name from elsewhere is no path to follow
        return None
    try:
        with open_own(path / kept.folder / name) as file:
            size = os.fstat(file.fileno()).st_size
            if size != record["size_bytes"] or size > _MOST_BYTES:
                return None
            data = file.read()
    except OSError:
        return None
    is_whole = len(data) == record["size_bytes"] and zlib.crc32(data) == record["crc32"]
    return data if is_whole else None


def count_changes(snapshot: Snapshot, record: Mapping[str, Any]) -> int:
    """Return how many documents were added and removed since there were ``n`` of them.

    ``next_row`` was the next row then. An update counts twice, as one removed and one added, and
    what came and went since not at all.
    """
    before = select(func.count()).select_from(DOCUMENT).where(LIVE)
    query = before.where(DOCUMENT.c.row < record["next_row"])
    n_left: int = snapshot.connection.scalar(query) or 0
    return (snapshot.n_documents - n_left) + (int(record["n"]) - n_left)
