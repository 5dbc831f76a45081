"""A folder of text files to documents, one per file."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path

from layerdex.errors import SourceError
from layerdex.indexer.readers.dialect import UTF_8
from layerdex.indexer.readers.encoding import recognise_encoding
from layerdex.indexer.readers.fields import Fields, check_columns
from layerdex.indexer.readers.rows import Reading, id_of_rejected, read_row
from layerdex.indexer.readers.streams import CHUNK_BYTES, named_errors, source_name
from layerdex.records import Origin, Rejected
from layerdex.storage.directory import SEGMENTS, is_index

COLUMNS = ("id", "text", "folder")


def read_folder(root: Path, fields: Fields, *, encoding: str | None = None) -> Iterator[Reading]:
    """Read every regular file below a folder, ordered by path.

    Hidden files and indexes are skipped, as the index of the run may be in the folder.

    A document's fields are ``id`` (the path relative to the root, with ``/``), ``text`` (the whole
    file, line ends unchanged) and ``folder`` (the path of its folder, absent at the top level).
    ``encoding`` is that of files without a byte order mark, by default UTF-8.
    """
    if _is_index(root):
        raise SourceError(f"{source_name(root)}: is an index; read what 'layerdex export' writes")
    check_columns(COLUMNS, fields=fields, source=source_name(root))
    for path in list_files(root):
        yield _read_file(path, path.relative_to(root), fields, encoding)


def list_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that `read_folder` reads, in its order."""
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
            yield from list_files(path)
        elif is_file:
            yield path


def _is_index(folder: Path) -> bool:
    return is_index(folder) and (folder / SEGMENTS).is_dir()


def _read_file(path: Path, relative: Path, fields: Fields, encoding: str | None) -> Reading:
    origin = Origin(source_name(path))
    try:
        text = _content(path, encoding)
    except UnicodeError:
        id_ = id_of_rejected({"id": relative.as_posix()}, fields)
        return Rejected(origin, f"not {(encoding or UTF_8).upper()} text", id_)
    row = {"id": relative.as_posix(), "text": text}
    if len(relative.parts) > 1:
        row["folder"] = relative.parent.as_posix()
    return read_row(row, origin=origin, fields=fields)


def _content(path: Path, encoding: str | None) -> str:
    """Return a file's text, up to the chunk with a NUL; raises `UnicodeError` for other bytes."""
    text = io.StringIO(newline="")
    with named_errors(source_name(path)), path.open("rb") as file:
        chunk = file.read(CHUNK_BYTES)
        found, n_mark = recognise_encoding(chunk, source=source_name(path), given=encoding)
        decoder = codecs.getincrementaldecoder(found)()
        chunk = chunk[n_mark:]
        while chunk:
            part = decoder.decode(chunk)
            text.write(part)
            if "\0" in part:
                break
            chunk = file.read(CHUNK_BYTES)
        text.write(decoder.decode(b"", final=True))
    return text.getvalue()
