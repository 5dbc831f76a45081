"""Artifacts: models learned from an index and stored with it, in files that the catalog names.

A classification head lies in ``heads/``, vector transforms lie in ``transforms/``, each as one
safetensors file. An index has at most one artifact of each kind.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from layerdex.errors import DamagedIndexError
from layerdex.storage.catalog.row_digests import damage_error
from layerdex.storage.catalog.rows import read_setting
from layerdex.storage.catalog.schema import DOCUMENT, LIVE
from layerdex.storage.catalog.validation import is_head, is_transform
from layerdex.storage.directory import HEADS, TRANSFORMS
from layerdex.storage.files import open_own, remove_tree
from layerdex.storage.snapshot import Snapshot

_FILE_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")
# Twenty times the size of two transforms per layer of BERT-large. A forged file that claims more
# is rejected before it is read into memory.
_MAX_BYTES = 4 << 30

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ArtifactKind:
    """A kind of artifact.

    ``name`` is the key of its setting in the catalog, ``folder`` the folder of its file, and
    ``words`` the command that makes it. ``is_valid`` checks the value of the setting.
    """

    name: str
    folder: str
    words: tuple[str, ...]
    is_valid: Callable[[object], bool]

    def remedy(self, *index: str) -> str:
        """Return the command that makes a new artifact of this kind."""
        return " ".join(("layerdex", self.words[0], *index, *self.words[1:]))


HEAD = ArtifactKind("head", HEADS, ("probe", "--save"), is_head)
TRANSFORM = ArtifactKind("transform", TRANSFORMS, ("transform",), is_transform)
ARTIFACT_KINDS = (HEAD, TRANSFORM)


def load_artifact(snapshot: Snapshot, kind: ArtifactKind) -> tuple[Tensors, dict[str, Any]] | None:
    """Return the tensors and the record of the snapshot's artifact, or None if it has none.

    Raises FileNotFoundError if the file is gone, which `Store.query` takes for another artifact
    saved meanwhile and starts the question again, and `DamagedIndexError` if the file is not the
    one that the catalog describes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    record = read_artifact_record(snapshot, kind)
    if record is None:
        return None
    data = read_artifact_file(snapshot.path, kind, record)
    try:
        return load(data), record
    # A forged file can have the right checksum. KeyError: a dtype that NumPy does not have.
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise artifact_damage(kind, snapshot.path / kind.folder / record["file"]) from error


def read_artifact_record(snapshot: Snapshot, kind: ArtifactKind) -> dict[str, Any] | None:
    """Return the catalog's record of an artifact, or None if the index has none.

    Raises `DamagedIndexError` for a setting that is not a valid record.
    """
    record: dict[str, Any] | None = snapshot.setting(kind.name)
    if record is not None and not kind.is_valid(record):
        raise damage_error(f"the setting {kind.name!r}")
    return record


def read_artifact_file(index: Path, kind: ArtifactKind, record: Mapping[str, Any]) -> bytes:
    """Return the bytes of an artifact's file in the index directory ``index``.

    Raises FileNotFoundError if the file is missing, and `DamagedIndexError` if it is not the file
    that ``record`` describes.
    """
    name = str(record["file"])
    path = index / kind.folder / name
    if _FILE_NAME.fullmatch(name) is None:  # a forged name could lead out of the index
        raise artifact_damage(kind, path)
    try:
        with open_own(path) as file:
            size = os.fstat(file.fileno()).st_size
            is_expected_size = size == record["size_bytes"] and size <= _MAX_BYTES
            data = file.read() if is_expected_size else b""
    except FileNotFoundError:
        raise
    except OSError as error:
        raise artifact_damage(kind, path) from error
    if len(data) != record["size_bytes"] or zlib.crc32(data) != record["crc32"]:
        raise artifact_damage(kind, path)
    return data


def artifact_damage(kind: ArtifactKind, path: Path) -> DamagedIndexError:
    """Return the error for a missing or changed artifact file."""
    return DamagedIndexError(f"the {kind.name} {path} is damaged: run '{kind.remedy()}' again")


def remove_unreferenced_artifacts(index: Path, connection: Connection) -> None:
    """Remove the artifact files that a killed writer left in the index directory ``index``.

    Keeps all files of a kind whose setting is damaged. Raises OSError.
    """
    for kind in ARTIFACT_KINDS:
        folder = index / kind.folder
        if folder.is_symlink() or not folder.is_dir():
            continue
        files = [entry for entry in folder.iterdir() if _FILE_NAME.fullmatch(entry.name)]
        if not files:
            continue
        try:
            record = read_setting(connection, kind.name)
        except DamagedIndexError:
            continue
        if record is not None and not kind.is_valid(record):
            continue
        for file in files:
            if record is None or file.name != record["file"]:
                remove_tree(file)


def count_changes(snapshot: Snapshot, record: Mapping[str, Any]) -> int:
    """Return how many documents were added or removed since an artifact was made.

    ``record["n"]`` is the number of documents and ``record["next_row"]`` the next free row at that
    time. An update counts twice, as one removal and one addition. A document that was added and
    removed since then is not counted.
    """
    n_left = count_left(snapshot, record)
    return (snapshot.n_documents - n_left) + (int(record["n"]) - n_left)


def count_left(snapshot: Snapshot, record: Mapping[str, Any]) -> int:
    """Return how many of the versions that were there when an artifact was made are live."""
    query = select(func.count()).select_from(DOCUMENT).where(LIVE)
    return snapshot.connection.scalar(query.where(DOCUMENT.c.row < record["next_row"])) or 0


def find_vanished_labels(snapshot: Snapshot, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of a head's record that no document has any more, in its order."""
    known = snapshot.values_of(record["label_field"])
    return tuple(label for label in record["labels"] if label not in known)
