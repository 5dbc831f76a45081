"""Artifacts: models learned from an index and stored with it, in files that the catalog names.

A classification head lies in ``heads/``, vector transforms lie in ``transforms/``, approximate
indexes in ``approximate/``, each as one safetensors file. An index has at most one head, one file
of transforms, and one approximate index per layer.
"""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from layerdex.errors import DamagedIndexError
from layerdex.storage.catalog.row_digests import setting_damage
from layerdex.storage.catalog.rows import read_setting
from layerdex.storage.catalog.schema import DOCUMENT, LIVE
from layerdex.storage.catalog.validation import are_approximate, is_head, is_transform
from layerdex.storage.directory import APPROXIMATE, HEADS, TRANSFORMS
from layerdex.storage.files import open_own, remove_tree
from layerdex.storage.snapshot import Snapshot

_FILE_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")
# Twenty times the size of two transforms per layer of BERT-large, or an approximate index of 37
# million vectors of MiniLM. A forged file that claims more is rejected before it is read.
MAX_BYTES = 4 << 30
_CHUNK_BYTES = 1 << 22

_OF_DAMAGE = (errno.ELOOP, errno.ENXIO, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EIO)
"""What is at the path is no regular file, or cannot be read; any other error is not the file's."""

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ArtifactKind:
    """A kind of artifact.

    ``name`` is the key of its setting in the catalog, ``title`` what messages call it, ``folder``
    the folder of its file, and ``words`` the command that makes it. ``is_valid`` checks the value
    of the setting, which is a file's record, or a list of records, one per layer, if the kind
    ``is_per_layer``.
    """

    name: str
    title: str
    folder: str
    words: tuple[str, ...]
    is_valid: Callable[[object], bool]
    is_per_layer: bool = False

    def remedy(self, *index: str, record: Mapping[str, Any] | None = None) -> str:
        """Return the command that makes a new artifact of this kind, in place of a record's."""
        words = [*self.words]
        if self.is_per_layer and record is not None:
            words += ["--layers", str(record["layer"]), "--recall", f"{record['target']:g}"]
        return " ".join(("layerdex", words[0], *index, *words[1:]))

    def setting_remedy(self, *index: str) -> str:
        """Return the command that replaces a damaged setting: of several files all are removed."""
        return self.remedy(*index) + (" --drop" if self.is_per_layer else "")

    def records(self, setting: Any) -> Sequence[Mapping[str, Any]]:
        """Return the records of a valid setting, one for each file."""
        if setting is None:
            return []
        return setting if isinstance(setting, list) else [setting]


HEAD = ArtifactKind("head", "head", HEADS, ("probe", "--save"), is_head)
TRANSFORM = ArtifactKind("transform", "transform", TRANSFORMS, ("transform",), is_transform)
APPROXIMATES = ArtifactKind(
    "approximate",
    "approximate index",
    APPROXIMATE,
    ("accelerate",),
    are_approximate,
    is_per_layer=True,
)
ARTIFACT_KINDS = (HEAD, TRANSFORM, APPROXIMATES)


def load_artifact(snapshot: Snapshot, kind: ArtifactKind) -> tuple[Tensors, dict[str, Any]] | None:
    """Return the tensors and the record of the snapshot's artifact, or None if it has none.

    Raises FileNotFoundError if the file is gone, which `Store.query` takes for another artifact
    saved meanwhile and starts the question again, and `DamagedIndexError` if the file is not the
    one that the catalog describes.
    """
    record = read_artifact_record(snapshot, kind)
    return None if record is None else (load_tensors(snapshot.path, kind, record), record)


def load_tensors(index: Path, kind: ArtifactKind, record: Mapping[str, Any]) -> Tensors:
    """Return the tensors of an artifact's file; raises as `read_artifact_file` does."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = read_artifact_file(index, kind, record)
    try:
        return load(data)
    # A forged file can have the right checksum. KeyError: a dtype that NumPy does not have.
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise artifact_damage(kind, index / kind.folder / record["file"], record) from error


def read_artifact_record(snapshot: Snapshot, kind: ArtifactKind) -> Any:
    """Return the catalog's record of an artifact, or None if the index has none.

    It is a list of records for a kind with several files. Raises `DamagedIndexError` for a setting
    that is not valid.
    """
    record = snapshot.setting(kind.name)
    if record is not None and not kind.is_valid(record):
        raise setting_damage(kind.name)
    return record


def read_artifact_file(index: Path, kind: ArtifactKind, record: Mapping[str, Any]) -> bytes:
    """Return the bytes of an artifact's file in the index directory ``index``.

    Raises FileNotFoundError if the file is missing, and `DamagedIndexError` if it is not the file
    that ``record`` describes.
    """
    return b"".join(read_chunks(index, kind, record))


def read_chunks(index: Path, kind: ArtifactKind, record: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the bytes of an artifact's file in parts; raises as `read_artifact_file` does.

    The checksum is compared after the last part.
    """
    name = str(record["file"])
    path = index / kind.folder / name
    if _FILE_NAME.fullmatch(name) is None:  # a forged name could lead out of the index
        raise artifact_damage(kind, path, record)
    crc32 = 0
    try:
        with open_own(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != record["size_bytes"] or size > MAX_BYTES:
                raise artifact_damage(kind, path, record)
            while chunk := file.read(_CHUNK_BYTES):
                crc32 = zlib.crc32(chunk, crc32)
                yield chunk
    except OSError as error:
        if error.errno not in _OF_DAMAGE:
            raise
        raise artifact_damage(kind, path, record) from error
    if crc32 != record["crc32"]:
        raise artifact_damage(kind, path, record)


def artifact_damage(
    kind: ArtifactKind, path: Path, record: Mapping[str, Any] | None
) -> DamagedIndexError:
    """Return the error for a missing or changed artifact file, which a record names."""
    remedy = kind.remedy(record=record)
    return DamagedIndexError(f"the {kind.title} {path} is damaged: run '{remedy}' again")


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
        referenced = {each["file"] for each in kind.records(record)}
        for file in files:
            if file.name not in referenced:
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
