"""Whole checks of an index, mending of damaged layer files, and compaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from sqlalchemy import LargeBinary, cast, delete, func, select, text, update

from layerdex.errors import DamagedIndexError
from layerdex.records import Rows
from layerdex.storage.catalog import clear_errors
from layerdex.storage.changes import insert_segment
from layerdex.storage.codecs import Codes
from layerdex.storage.directory import CATALOG, SEGMENTS
from layerdex.storage.files import checksum, remove_tree, sync_folder, write_file
from layerdex.storage.segment import LayerFile, layer_filename, serialize_layer
from layerdex.storage.snapshot import segment_rows
from layerdex.storage.store import Store
from layerdex.storage.tables import DOCUMENT, DOCUMENT_TEXT, SEGMENT, SEGMENT_FILE
from layerdex.storage.vectors import Segment
from layerdex.storage.writer import Writer

OnProgress = Callable[[int, int | None], None]

# A merged segment of this many documents, 384 wide, takes 50 MB a layer while it is written.
_TARGET_DOCUMENTS = 65_536


@dataclass(frozen=True, slots=True)
class Problem:
    """Something found wrong; ``segment`` and ``layer`` where it is a layer file."""

    path: Path
    reason: str
    segment: Segment | None = None
    layer: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def verify(store: Store, *, on_progress: OnProgress | None = None) -> list[Problem]:
    """Check the catalog's structure, every text's hash and every layer file's checksum."""
    problems = _verify_catalog(store)
    with store.read() as snapshot:
        segments = snapshot.segments
    with clear_errors(store.path):
        problems += _verify_files(store, segments, on_progress)
    with store.read() as snapshot:  # what a compaction has removed meanwhile is not missing
        names = {segment.name for segment in snapshot.segments}
    return [one for one in problems if one.segment is None or one.segment.name in names]


def _verify_files(
    store: Store, segments: Sequence[Segment], on_progress: OnProgress | None
) -> list[Problem]:
    problems: list[Problem] = []
    files = [(segment, layer) for segment in segments for layer in store.layers]
    for done, (segment, layer) in enumerate(files, 1):
        if (reason := _verify_file(store, segment, layer)) is not None:
            problems.append(Problem(store.file_path(segment, layer), reason, segment, layer))
        if on_progress is not None:
            on_progress(done, len(files))
    return problems


def damaged_layers(problems: Iterable[Problem]) -> dict[str, tuple[Segment, list[int]]]:
    """Sort the problems of layer files by segment name."""
    damaged: dict[str, tuple[Segment, list[int]]] = {}
    for problem in problems:
        if problem.segment is not None and problem.layer is not None:
            entry = damaged.setdefault(problem.segment.name, (problem.segment, []))
            entry[1].append(problem.layer)
    return damaged


def segment_texts(writer: Writer, segment: Segment) -> list[str]:
    """Return the texts of a segment by position, those of dead versions included.

    Raises `DamagedIndexError` where one of them is lost or changed.
    """
    with writer.transaction() as connection:
        within = DOCUMENT.c.row.between(segment.first_row, segment.last_row)
        query = (
            select(DOCUMENT.c.content_hash, DOCUMENT_TEXT.c.text)
            .outerjoin_from(DOCUMENT, DOCUMENT_TEXT, DOCUMENT_TEXT.c.row == DOCUMENT.c.row)
            .where(within)
            .order_by(DOCUMENT.c.row)
        )
        found = list(connection.execute(query))
    if len(found) != segment.n_documents or any(
        content is None or sha256(content.encode()).digest() != digest for digest, content in found
    ):
        raise DamagedIndexError(
            f"the catalog has lost texts of segment {segment.name}: restore it from a backup"
        )
    return [content for _, content in found]


def restore_layers(
    store: Store, writer: Writer, segment: Segment, layers: Mapping[int, Codes]
) -> None:
    """Replace damaged layer files by ones over the given codes of the store's codec.

    A new file is renamed over the old one, which readers may still have mapped. Its checksum
    differs from the old one where another engine encoded it, and is recorded.
    """
    folder = store.path / SEGMENTS / segment.name
    restored = []
    with clear_errors(folder):
        folder.mkdir(exist_ok=True)
        for layer, codes in layers.items():
            target = folder / layer_filename(layer)
            temporary = target.with_suffix(".new")
            remove_tree(temporary)
            data = serialize_layer(codes, store.codec)
            crc32 = write_file(temporary, data)
            if target.is_dir():
                remove_tree(target)  # no file can be renamed over a folder
            temporary.replace(target)
            restored.append((layer, data.nbytes, crc32))
        sync_folder(folder)
        sync_folder(folder.parent)
    with writer.change() as connection:
        for layer, size_bytes, crc32 in restored:
            key = (SEGMENT_FILE.c.segment_id == segment.id, SEGMENT_FILE.c.layer == layer)
            values = {"size_bytes": size_bytes, "crc32": crc32}
            connection.execute(update(SEGMENT_FILE).where(*key).values(**values))


def compact(store: Store, writer: Writer, *, on_progress: OnProgress | None = None) -> int:
    """Merge small segments and drop dead versions; return how many segments were replaced.

    Each group of neighbouring segments is one commit: the new segment is written whole, swapped
    in by one transaction, and only then are the old files unlinked.
    """
    n_replaced = 0
    segments = writer.segments()
    groups = list(_groups(writer, segments))
    for done, group in enumerate(groups, 1):
        _merge(store, writer, group)
        n_replaced += len(group)
        if on_progress is not None:
            on_progress(done, len(groups))
    if groups:
        writer.vacuum()
    return n_replaced


def _groups(writer: Writer, segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    group: list[Segment] = []
    for segment in segments:
        if group and sum(s.n_documents for s in group) + segment.n_documents > _TARGET_DOCUMENTS:
            yield from _worth_merging(writer, group)
            group = []
        group.append(segment)
    yield from _worth_merging(writer, group)


def _worth_merging(writer: Writer, group: list[Segment]) -> Iterator[list[Segment]]:
    n_live = sum(len(_live_rows(writer, segment)) for segment in group)
    if len(group) > 1 or n_live < sum(segment.n_documents for segment in group):
        yield group


def _live_rows(writer: Writer, segment: Segment) -> Rows:
    with writer.transaction() as connection:
        within = DOCUMENT.c.row.between(segment.first_row, segment.last_row)
        query = select(DOCUMENT.c.row).where(within, DOCUMENT.c.live).order_by(DOCUMENT.c.row)
        return np.fromiter(connection.scalars(query), dtype=np.int64)


def _merge(store: Store, writer: Writer, group: Sequence[Segment]) -> None:
    live = [_live_rows(writer, segment) for segment in group]
    rows = np.concatenate(live)
    with writer.transaction() as connection:
        own = [segment_rows(connection, segment) for segment in group]
    positions = [np.searchsorted(mine, chosen) for mine, chosen in zip(own, live, strict=True)]

    def merged_layers() -> Iterator[Codes]:
        for layer in store.layers:
            files = [_open(store, segment, layer) for segment in group]
            parts = zip(files, positions, strict=True)
            yield np.concatenate([file.codes(at) for file, at in parts])

    new = writer.write_segment(merged_layers()) if len(rows) else None
    first, last = group[0].first_row, group[-1].last_row
    with writer.change() as connection:
        connection.execute(delete(SEGMENT).where(SEGMENT.c.id.in_([s.id for s in group])))
        within = DOCUMENT.c.row.between(first, last)
        connection.execute(delete(DOCUMENT).where(within, ~DOCUMENT.c.live))
        if new is not None:
            insert_segment(connection, *new, rows.tolist())
    with clear_errors(store.path):
        for segment in group:
            remove_tree(store.path / SEGMENTS / segment.name)


def _open(store: Store, segment: Segment, layer: int) -> LayerFile:
    try:  # the checks keep a damaged vector from being copied under a fresh checksum
        return store.open_file(segment, layer)
    except FileNotFoundError as error:
        raise DamagedIndexError(
            f"{error.filename} is missing: run 'layerdex repair' on this index"
        ) from error


def _verify_file(store: Store, segment: Segment, layer: int) -> str | None:
    recorded = segment.files.get(layer)
    path = store.file_path(segment, layer)
    if recorded is None:
        return "not in the catalog"
    try:
        if path.stat().st_size != recorded.size_bytes:
            return f"{path.stat().st_size} bytes instead of {recorded.size_bytes}"
        with path.open("rb") as file:
            return None if checksum(file) == recorded.crc32 else "wrong checksum"
    except FileNotFoundError:
        return "missing"


def _verify_catalog(store: Store) -> list[Problem]:
    path = store.path / CATALOG
    with store.read() as snapshot:
        connection = snapshot.connection
        found = connection.execute(text("PRAGMA integrity_check")).scalars().all()
        problems = [Problem(path, reason) for reason in found if reason != "ok"]
        for segment in snapshot.segments:
            within = DOCUMENT.c.row.between(segment.first_row, segment.last_row)
            count = select(func.count()).select_from(DOCUMENT).where(within)
            if connection.scalar(count) != segment.n_documents:
                problems.append(Problem(path, f"lost documents of segment {segment.name}"))
        # As bytes, since a damaged text need not be UTF-8.
        content_bytes = cast(DOCUMENT_TEXT.c.text, LargeBinary)
        query = select(DOCUMENT.c.id, DOCUMENT.c.content_hash, content_bytes).outerjoin_from(
            DOCUMENT, DOCUMENT_TEXT, DOCUMENT_TEXT.c.row == DOCUMENT.c.row
        )
        for identifier, digest, content in connection.execute(query):
            if content is None or sha256(content).digest() != digest:
                problems.append(Problem(path, f"the text of document {identifier!r} is damaged"))
    return problems
