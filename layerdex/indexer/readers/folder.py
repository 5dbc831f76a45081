"""A folder of text files to documents, one per file."""

from __future__ import annotations

import codecs
import io
import logging
from collections.abc import Iterator
from pathlib import Path

from layerdex.errors import SourceError
from layerdex.indexer.readers.changes import CHANGED, FileState
from layerdex.indexer.readers.dialect import UTF_8, Dialect
from layerdex.indexer.readers.encoding import recognise_encoding
from layerdex.indexer.readers.fields import Fields, check_columns
from layerdex.indexer.readers.listing import Entry, Listing, holds_index
from layerdex.indexer.readers.row_size import describe_long
from layerdex.indexer.readers.rows import Reading, read_row
from layerdex.indexer.readers.streams import CHUNK_BYTES, describe_error, named_errors, source_name
from layerdex.indexer.readers.values import BadValueError, clean_string
from layerdex.records import UNSET, Origin, Rejected, Unset

logger = logging.getLogger(__name__)

COLUMNS = ("id", "text", "folder")


def read_folder(root: Path, fields: Fields, dialect: Dialect | None = None) -> Iterator[Reading]:
    """Read every regular file below a folder, ordered by path.

    Hidden files, indexes (the run's own may be in the folder), links to folders and what is no file
    are left out; how many is logged at the end. A file or folder that cannot be read is `Rejected`,
    with the id that its document has or, for a folder, with none that is known.

    A document's fields are ``id`` (the path relative to the root, with ``/``), ``text`` (the whole
    file, line ends unchanged) and ``folder`` (the path of its folder, absent at the top level).
    The dialect's encoding is that of files without a byte order mark, by default UTF-8.
    """
    dialect, source = dialect or Dialect(), source_name(root)
    listing = Listing(root)
    with named_errors(source):
        if holds_index(root):
            raise SourceError(f"{source}: is an index; read what 'layerdex export' writes")
        fields = fields.of(COLUMNS)
        check_columns(COLUMNS, fields=fields, source=source)
        for entry in listing:
            yield _read_entry(entry, entry.path.relative_to(root), fields, dialect)
    if listing.left_out:
        counts = ", ".join(f"{kind} ({n:,})" for kind, n in listing.left_out.items())
        logger.warning("%s: left out: %s", source, counts)


def _read_entry(entry: Entry, relative: Path, fields: Fields, dialect: Dialect) -> Reading:
    origin, fault, text = Origin(source_name(entry.path)), entry.fault, ""
    if fault is None:
        try:
            text = _content(entry.path, dialect)
        except OSError as error:
            fault = f"cannot be read: {describe_error(error)}"
        except UnicodeError:
            fault = f"not {(dialect.encoding or UTF_8).upper()} text"
        except _RefusedError as error:
            fault = str(error)
    if fault is None and fields.id_name == "id" and not _is_utf8(relative):
        fault = "the file's name is not UTF-8"
    if fault is not None:
        id_ = _id_of(relative, fields) if entry.is_file else UNSET
        return Rejected(origin, fault, id_)
    row = {"id": relative.as_posix(), "text": text}
    if len(relative.parts) > 1:
        row["folder"] = relative.parent.as_posix()
    return read_row(row, origin=origin, fields=fields)


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _id_of(relative: Path, fields: Fields) -> str | Unset:
    """Return the id of a file that was not read; it is unknown where it depends on the text."""
    if fields.id_name != "id":
        return UNSET
    try:
        return clean_string(relative.as_posix(), field="id")
    except BadValueError:
        return UNSET


class _RefusedError(Exception):
    """A file that can be read, but is not taken."""


def _content(path: Path, dialect: Dialect) -> str:
    """Return a file's text, up to the chunk with a NUL; raises `UnicodeError` for other bytes."""
    text, n_bytes = io.StringIO(newline=""), 0
    with path.open("rb") as file:
        before = FileState.of(file.fileno())
        chunk = file.read(CHUNK_BYTES)
        source = source_name(path)
        encoding, n_mark = recognise_encoding(chunk, source=source, given=dialect.encoding)
        decoder = codecs.getincrementaldecoder(encoding)()
        chunk = chunk[n_mark:]
        while chunk:
            n_bytes += len(chunk)
            if max(n_bytes, before.n_bytes - n_mark) > dialect.max_row_bytes:
                raise _RefusedError(describe_long(dialect.max_row_bytes))
            part = decoder.decode(chunk)
            text.write(part)
            if "\0" in part:
                break
            chunk = file.read(CHUNK_BYTES)
        text.write(decoder.decode(b"", final=True))
        if before.is_changed(FileState.of(file.fileno())):
            raise _RefusedError(CHANGED)
    return text.getvalue()
