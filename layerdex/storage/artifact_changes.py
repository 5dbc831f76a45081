"""Saving and removing artifacts."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from layerdex.errors import DamagedIndexError, StorageError
from layerdex.storage.artifacts import MAX_BYTES, ArtifactKind, Tensors
from layerdex.storage.catalog.engine import translate_errors
from layerdex.storage.files import make_folder, remove_tree, sync_folder, write_file
from layerdex.storage.writer import Writer


def save_artifact(
    writer: Writer,
    kind: ArtifactKind,
    tensors: Tensors,
    record: Mapping[str, Any],
    *,
    beside: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Save an artifact in place of the previous one of its kind, or of those not ``beside`` it.

    ``beside`` are the records that stay, for a kind with several files. ``record`` is stored in the
    catalog, as JSON, together with the file's name, size and CRC-32, and returned with them. The
    file is written and flushed under a new name before the catalog names it, so that a killed
    process leaves the old artifact or the new one. Raises `StorageError`, also for a file that
    would be too large to be read again, or `DamagedIndexError`.
    """
    from safetensors.numpy import save

    # safetensors writes an array's memory as it is, whatever its order.
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    data = save(contiguous)
    if len(data) > MAX_BYTES:
        raise StorageError(
            f"the {kind.title} would take {len(data):,} bytes, more than {MAX_BYTES:,}"
        )
    name = f"{uuid.uuid4().hex}.safetensors"
    with _changing(writer, kind) as folder:
        make_folder(folder)
        write_file(folder / name, np.frombuffer(data, dtype=np.uint8))
        sync_folder(folder)
        of_file = {"file": name, "size_bytes": len(data), "crc32": zlib.crc32(data)}
        saved = {**record, **of_file}
        setting = saved if beside is None else [*beside, saved]
        writer.set(kind.name, setting)
        _remove_others(folder, kind, setting)
    return saved


def keep_artifacts(
    writer: Writer, kind: ArtifactKind, records: Sequence[Mapping[str, Any]]
) -> None:
    """Remove all files of a kind from the catalog, then from the disk, but those of ``records``.

    Raises as `save_artifact` does.
    """
    if not records:
        remove_artifact(writer, kind)
        return
    with _changing(writer, kind) as folder:
        writer.set(kind.name, [*records])
        _remove_others(folder, kind, [*records])
        sync_folder(folder)  # a power loss must not bring back what was removed


def remove_artifact(writer: Writer, kind: ArtifactKind) -> None:
    """Remove an artifact from the catalog, then its folder. Raises as `save_artifact` does."""
    with _changing(writer, kind) as folder:
        writer.set(kind.name, None)
        remove_tree(folder)


def _remove_others(folder: Path, kind: ArtifactKind, setting: Any) -> None:
    named = {record["file"] for record in kind.records(setting)}
    for entry in folder.iterdir():
        if entry.name not in named:
            remove_tree(entry)


@contextmanager
def _changing(writer: Writer, kind: ArtifactKind) -> Iterator[Path]:
    """Yield the folder of a kind, in the place that the writer holds."""
    path = writer.place.path / kind.folder
    with translate_errors(path), writer.place.unmoved():
        if path.is_symlink():
            raise DamagedIndexError(
                f"{path} is a symbolic link: Layerdex does not write through it"
            )
        yield writer.place.folder / kind.folder
