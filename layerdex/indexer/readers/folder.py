"""A folder of text files to documents, one per file."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path

from layerdex.errors import SourceError
from layerdex.indexer.readers.fields import Fields, check_columns
from layerdex.indexer.readers.rows import Reading, id_of_rejected, read_row
from layerdex.indexer.readers.streams import CHUNK_BYTES, named_errors, source_name
from layerdex.records import Origin, Rejected
from layerdex.storage.directory import SEGMENTS, is_index

COLUMNS = ("id", "text", "folder")


def read_folder(root: Path, fields: Fields) -> Iterator[Reading]:
    """Read every regular file below a folder, ordered by path.

    Hidden files and indexes are skipped, as the index of the run may be in the folder.

    A document's fields are ``id`` (the path relative to the root, with ``/``), ``text`` (the whole
    file, line ends unchanged) and ``folder`` (the path of its folder, absent at the top level).
    """
    if _is_index(root):
        raise SourceError(f"{source_name(root)}: is an index; read what 'layerdex export' writes")
    check_columns(COLUMNS, fields=fields, source=source_name(root))
    for path in _files(root):
        yield _read_file(path, path.relative_to(root), fields)


def _files(folder: Path) -> Iterator[Path]:
    with named_errors(source_name(folder)), os.scandir(folder) as entries:
        shown = sorted(
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
    for entry in shown:
        path = Path(entry.path)
        with named_errors(source_name(path)):
            is_folder, is_file = entry.is_dir(follow_symlinks=False), entry.is_file()
            is_other = is_folder and _is_index(path)
        if is_folder and not is_other:
            yield from _files(path)
        elif is_file:
            yield path


def _is_index(folder: Path) -> bool:
    return is_index(folder) and (folder / SEGMENTS).is_dir()


def _read_file(path: Path, relative: Path, fields: Fields) -> Reading:
    origin = Origin(source_name(path))
    text = _content(path)
    if text is None:
        id_ = id_of_rejected({"id": relative.as_posix()}, fields)
        return Rejected(origin, "not UTF-8 text", id_)
    row = {"id": relative.as_posix(), "text": text}
    if len(relative.parts) > 1:
        row["folder"] = relative.parent.as_posix()
    return read_row(row, origin=origin, fields=fields)


def _content(path: Path) -> str | None:
    """Return a file's text, or None at the first invalid byte."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    text = io.StringIO(newline="")
    with named_errors(source_name(path)), path.open("rb") as file:
        try:
            while chunk := file.read(CHUNK_BYTES):
                text.write(decoder.decode(chunk))
                if b"\0" in chunk:
                    break
            text.write(decoder.decode(b"", final=True))
        except UnicodeDecodeError:
            return None
    return text.getvalue().removeprefix("\ufeff")
