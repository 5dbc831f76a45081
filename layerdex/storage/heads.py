"""The head that an index keeps: a safetensors file in ``heads/``, named by the catalog."""

from __future__ import annotations

import os
import re
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from layerdex.errors import DamagedIndexError
from layerdex.storage.catalog import clear_errors
from layerdex.storage.digests import damaged
from layerdex.storage.files import make_folder, open_own, remove_tree, sync_folder, write_file
from layerdex.storage.kinds import is_head
from layerdex.storage.rows import read_setting

if TYPE_CHECKING:
    from layerdex.storage.snapshot import Snapshot
    from layerdex.storage.store import Store

HEADS = "heads"
HEAD = "head"
_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")

Tensors = dict[str, NDArray[Any]]


def save_head(
    store: Store,
    tensors: Tensors,
    facts: Mapping[str, Any],
    *,
    lock_timeout_s: float = 10.0,
) -> None:
    """Keep a head in place of the one before; ``facts`` go to the catalog, as JSON.

    The file is written and flushed under a new name before the catalog names it, with its size
    and CRC-32, so that a kill leaves the old head or the new one. Raises `LockedIndexError`,
    `StorageError` or `DamagedIndexError`.
    """
    from safetensors.numpy import save

    # safetensors writes an array's memory as it lies, whatever its order.
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    data = np.frombuffer(save(whole), dtype=np.uint8)
    folder, name = store.path / HEADS, f"{uuid.uuid4().hex}.safetensors"
    with store.write(lock_timeout_s=lock_timeout_s) as writer, clear_errors(folder):
        if folder.is_symlink():
            raise DamagedIndexError(f"{folder} is not a folder: nothing is written through it")
        make_folder(folder)
        crc32 = write_file(folder / name, data)
        sync_folder(folder)
        writer.set(HEAD, {**facts, "file": name, "size_bytes": len(data), "crc32": crc32})
        for entry in folder.iterdir():
            if entry.name != name:
                remove_tree(entry)


def remove_leftover_heads(path: Path, connection: Connection) -> None:
    """Remove the files of heads that a killed writer of the index at ``path`` left behind.

    None is removed where the setting that names the head is damaged. Raises OSError.
    """
    folder = path / HEADS
    if folder.is_symlink() or not folder.is_dir():
        return
    ours = [entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name)]
    if not ours:
        return
    try:
        facts = read_setting(connection, HEAD)
    except DamagedIndexError:
        return
    if facts is not None and not is_head(facts):
        return
    for entry in ours:
        if facts is None or entry.name != facts["file"]:
            remove_tree(entry)


def read_head_facts(snapshot: Snapshot) -> dict[str, Any] | None:
    """Return what the catalog says of the head; None without one.

    Raises `DamagedIndexError` for a setting that describes none.
    """
    facts: dict[str, Any] | None = snapshot.setting(HEAD)
    if facts is not None and not is_head(facts):
        raise damaged(f"the setting {HEAD!r}")
    return facts


def load_head(store: Store) -> tuple[Tensors, dict[str, Any]] | None:
    """Return the head's tensors and facts, checked against the catalog; None without one.

    Raises `DamagedIndexError` for a file that is missing, cut or changed.
    """
    from safetensors.numpy import load

    while True:
        with store.read() as snapshot:
            facts = read_head_facts(snapshot)
        if facts is None:
            return None
        data = read_head(store.path, facts)
        if data is not None:
            return load(data), facts
        with store.read() as snapshot:  # another may have been saved meanwhile
            if snapshot.setting(HEAD) == facts:
                raise DamagedIndexError(
                    f"the head {store.path / HEADS / str(facts['file'])} is damaged: "
                    "run 'layerdex probe --save' again"
                )


def read_head(path: Path, facts: Mapping[str, Any]) -> bytes | None:
    """Return the bytes of the head's file; None where they are not those of the catalog."""
    name = str(facts["file"])
    if _NAME.fullmatch(name) is None:  # a name from elsewhere is no path to follow
        return None
    try:
        with open_own(path / HEADS / name) as file:
            if os.fstat(file.fileno()).st_size != facts["size_bytes"]:
                return None
            data = file.read()
    except OSError:
        return None
    is_whole = len(data) == facts["size_bytes"] and zlib.crc32(data) == facts["crc32"]
    return data if is_whole else None
