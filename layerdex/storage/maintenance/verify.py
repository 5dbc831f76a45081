"""Checking a whole index, and restoring damaged layer files."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select, update

from layerdex.errors import DamagedIndexError
from layerdex.records import OnProgress, progress_of_shares
from layerdex.storage.artifacts import ARTIFACT_KINDS, ArtifactKind, read_chunks
from layerdex.storage.catalog.checks import catalog_faults
from layerdex.storage.catalog.documents import is_text_of
from layerdex.storage.catalog.engine import translate_errors
from layerdex.storage.catalog.row_digests import segment_digest
from layerdex.storage.catalog.schema import DOCUMENT, DOCUMENT_TEXT, SEGMENT, SEGMENT_FILE
from layerdex.storage.catalog.seal import WRONG_SEAL, check_seal, is_torn, seal_path
from layerdex.storage.catalog.segments import read_segments, within
from layerdex.storage.directory import CATALOG
from layerdex.storage.files import new_file, remove_tree, sync_folder
from layerdex.storage.store import Store
from layerdex.storage.vectors.codecs import Codes
from layerdex.storage.vectors.layer_file import layer_filename, layer_header
from layerdex.storage.vectors.layer_vectors import Segment
from layerdex.storage.vectors.segment_file import SegmentFile, WrittenBlocks
from layerdex.storage.writer import Writer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """Damage that `verify` found: of a layer file, of an artifact, or else of the catalog.

    ``segment`` and ``layer`` are set for a layer file; for an artifact ``artifact`` and ``remedy``,
    the command that makes it again.
    """

    path: Path
    reason: str
    segment: Segment | None = None
    layer: int | None = None
    artifact: ArtifactKind | None = None
    remedy: str | None = None

    @property
    def is_repairable(self) -> bool:
        """Whether `repair` can restore it: a layer file, or a seal over a sound catalog.

        Any other damage of the catalog needs a backup.
        """
        return self.segment is not None or self.reason == WRONG_SEAL

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def verify(store: Store, *, on_progress: OnProgress | None = None) -> list[Problem]:
    """Check the catalog, row by row and as a whole, and every layer file's checksum.

    A torn seal protects nothing and damages nothing: it is logged, and is not a problem.
    """
    problems = _verify_seal(store) + _verify_catalog(store)
    settings: dict[str, Any] = {}
    with store.read() as snapshot:
        segments = snapshot.segments
        for kind in ARTIFACT_KINDS:
            with contextlib.suppress(DamagedIndexError):  # `_verify_catalog` reports the setting
                settings[kind.name] = snapshot.setting(kind.name)
    with translate_errors(store.path):
        problems += _verify_files(store, segments, on_progress)
    for kind in ARTIFACT_KINDS:
        problems += _verify_artifact(store, kind, settings.get(kind.name))
    with store.read() as snapshot:  # a segment that a compaction has removed is not missing
        names = {segment.name for segment in snapshot.segments}
    return [p for p in problems if p.segment is None or p.segment.name in names]


def _verify_artifact(store: Store, kind: ArtifactKind, setting: Any) -> list[Problem]:
    if setting is None:
        return []
    path = store.path / kind.folder
    if not kind.is_valid(setting):
        reason = f"the record of the {kind.title} is damaged: run '{kind.setting_remedy()}'"
        remedy = kind.setting_remedy(str(store.path))
        return [Problem(path, reason, artifact=kind, remedy=remedy)]
    problems = []
    for record in kind.records(setting):
        try:
            for _ in read_chunks(store.path, kind, record):
                pass
        except (DamagedIndexError, OSError):
            with store.read() as snapshot:
                if snapshot.setting(kind.name) != setting:  # another was saved meanwhile
                    return []
            remedy = kind.remedy(record=record)
            reason = f"the {kind.title} is missing or damaged: run '{remedy}' again"
            remedy = kind.remedy(str(store.path), record=record)
            file = path / str(record["file"])
            problems.append(Problem(file, reason, artifact=kind, remedy=remedy))
    return problems


def _verify_files(
    store: Store, segments: Sequence[Segment], on_progress: OnProgress | None
) -> list[Problem]:
    problems: list[Problem] = []
    files = [(segment, layer) for segment in segments for layer in store.layers]
    sizes = [segment.files[layer].size_bytes for segment, layer in files]
    told = progress_of_shares(on_progress, sizes, sum(sizes))
    for tell, (segment, layer) in zip(told, files, strict=True):
        if (reason := _verify_file(store, segment, layer)) is not None:
            problems.append(Problem(store.file_path(segment, layer), reason, segment, layer))
        if tell is not None:
            tell(1, 1)
    return problems


def damaged_layers(problems: Iterable[Problem]) -> dict[str, tuple[Segment, list[int]]]:
    """Return the damaged layers of each segment, by its name."""
    damaged: dict[str, tuple[Segment, list[int]]] = {}
    for problem in problems:
        if problem.segment is not None and problem.layer is not None:
            entry = damaged.setdefault(problem.segment.name, (problem.segment, []))
            entry[1].append(problem.layer)
    return damaged


def segment_texts(writer: Writer, segment: Segment) -> list[str]:
    """Return the texts of a segment by position, those of dead versions included.

    Raises `DamagedIndexError` if one of them is lost or changed.
    """
    with writer.transaction() as connection:
        query = (
            select(DOCUMENT.c.content_hash, DOCUMENT_TEXT.c.text)
            .outerjoin_from(DOCUMENT, DOCUMENT_TEXT, DOCUMENT_TEXT.c.row == DOCUMENT.c.row)
            .where(within(segment))
            .order_by(DOCUMENT.c.row)
        )
        texts = list(connection.execute(query))
    if len(texts) != segment.n_documents or not all(is_text_of(t, digest) for digest, t in texts):
        raise DamagedIndexError(
            f"the catalog has lost texts of segment {segment.name}: restore it from a backup"
        )
    return [content for _, content in texts]


def restore_layers(
    store: Store,
    writer: Writer,
    segment: Segment,
    layers: Sequence[int],
    windows: Iterable[Sequence[Codes]],
) -> None:
    """Replace damaged layer files by files with the given codes of the store's codec.

    Each window has the next codes of all ``layers``; it is written before the next is asked for,
    as all layers of a large segment may be more than there is memory. New files are complete before
    one of them takes the place of an old one, which readers may still have mapped. Their hashes are
    recorded, as they differ from the old ones if another engine encoded the texts.
    """
    with writer.changing_files() as segments:
        folder, new = segments / segment.name, segments / f"{segment.name}.new"
        remove_tree(new)  # of a run that was killed
        new.mkdir()
    try:
        names = [layer_filename(layer) for layer in layers]
        header = layer_header(segment.n_documents, store.settings.width, store.codec)
        recorded = _write_windows(writer, [new / name for name in names], header, windows)
        with writer.changing_files():
            if folder.is_symlink() or not folder.is_dir():
                remove_tree(folder)
                folder.mkdir()
            for name in names:
                if (folder / name).is_dir():
                    remove_tree(folder / name)  # a file cannot be renamed over a folder
                (new / name).replace(folder / name)
            sync_folder(folder)
            sync_folder(folder.parent)
    finally:
        with contextlib.suppress(OSError):
            remove_tree(new)
    restored = dict(zip(layers, recorded, strict=True))
    with writer.change() as connection:
        (current,) = (s for s in read_segments(connection) if s.id == segment.id)
        after = replace(current, files={**current.files, **restored})
        for layer, file in restored.items():
            key = (SEGMENT_FILE.c.segment_id == segment.id, SEGMENT_FILE.c.layer == layer)
            connection.execute(update(SEGMENT_FILE).where(*key).values(**asdict(file)))
        of_segment = update(SEGMENT).where(SEGMENT.c.id == segment.id)
        connection.execute(of_segment.values(digest=segment_digest(after)))


def _write_windows(
    writer: Writer, paths: Sequence[Path], header: bytes, windows: Iterable[Sequence[Codes]]
) -> list[SegmentFile]:
    """Write a file of each layer side by side, and return what the catalog records of them."""
    blocks = [WrittenBlocks() for _ in paths]
    with contextlib.ExitStack() as files:
        with writer.changing_files():
            writes = [files.enter_context(new_file(path)) for path in paths]
        # What encodes a window is not ours: its errors are left as they are.
        for parts in chain([[np.frombuffer(header, np.uint8)] * len(paths)], windows):
            with writer.changing_files():
                for write, hashes, part in zip(writes, blocks, parts, strict=True):
                    data = np.ascontiguousarray(part).data.cast("B")
                    write(data)
                    hashes.add(data)
        with writer.changing_files():
            files.close()
    return [hashes.record() for hashes in blocks]


def _verify_file(store: Store, segment: Segment, layer: int) -> str | None:
    try:
        store.check_file(segment, layer)
    except (FileNotFoundError, NotADirectoryError):  # a file may be in place of its folder
        return "missing"
    except IsADirectoryError:
        return "a folder"
    except DamagedIndexError as error:
        return error.reason or str(error)
    return None


def _verify_seal(store: Store) -> list[Problem]:
    path = store.path / CATALOG
    try:
        with translate_errors(path):
            if is_torn(path):
                logger.warning(
                    "%s is not a checksum, so it does not protect the catalog: 'layerdex repair' "
                    "renews it",
                    seal_path(path),
                )
            check_seal(path)
    except DamagedIndexError as error:
        return [Problem(path, error.reason or str(error))]
    return []


def _verify_catalog(store: Store) -> list[Problem]:
    path = store.path / CATALOG
    with store.read() as snapshot:
        return [Problem(path, fault) for fault in catalog_faults(snapshot.connection)]
