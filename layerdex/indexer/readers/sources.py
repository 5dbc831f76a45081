"""Several sources of any kind, read one after another."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import NoneType

from layerdex.arguments import check_type, to_choice
from layerdex.choices import Format
from layerdex.errors import RowError, SourceError
from layerdex.indexer.readers.blank_texts import mark_cells, settle_blanks
from layerdex.indexer.readers.common_names import DEFAULT_TEXT_NAME
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.formats import check_sources
from layerdex.indexer.readers.frames import is_frame, is_polars_frame, read_frame, read_polars
from layerdex.indexer.readers.id_fields import IdFields
from layerdex.indexer.readers.mappings import read_mappings
from layerdex.indexer.readers.query_fields import QueryFields
from layerdex.indexer.readers.read import read_source
from layerdex.indexer.readers.rows import Reading
from layerdex.indexer.readers.streams import OnBytes, is_stdin, named_errors, source_name
from layerdex.records import UNSET, Blank, Origin, Rejected, Source

logger = logging.getLogger(__name__)


def read_all(
    sources: Iterable[Source],
    *,
    format: Format | str = Format.AUTO,
    fields: Fields | None = None,
    dialect: Dialect | None = None,
    on_bytes: Callable[[int, int], None] | None = None,
) -> Iterator[Reading]:
    """Read paths, ``-``, data frames and mappings, in order.

    All paths are checked before the first row is read. If all sources are files, ``on_bytes`` gets
    the number of bytes read so far and the total. Raises `SourceError`.
    """
    _check_fields(fields)
    check_type(dialect, (Dialect, NoneType), what="a dialect is given as `Dialect`")
    sources, format_ = list(sources), to_choice(Format, format)
    check_sources([source for source in sources if isinstance(source, str | Path)], format=format_)
    count = None if on_bytes is None else _count(sources, on_bytes)
    return chain.from_iterable(_read(source, format_, fields, dialect, count) for source in sources)


def may_block(source: Source) -> bool:
    """Return whether the next row of a source may take long: from a pipe or an iterator.

    Files, folders and collections with a length do not block.
    """
    if not isinstance(source, str | Path):
        return not isinstance(source, Sized)
    if is_stdin(source):
        return True
    try:
        mode = Path(source).stat().st_mode
    except (OSError, ValueError):  # reported when it is read
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_labelled(
    source: Source,
    *,
    format: Format | str = Format.AUTO,
    fields: Fields | None = None,
    dialect: Dialect | None = None,
) -> tuple[list[str], list[str]]:
    """Return the texts and labels of a test set; other fields are ignored unless they are named.

    A table's row without a text is left out, and how many are is logged. Raises `RowError` for
    another missing text, or a missing label.
    """
    _check_fields(fields)
    fields = fields or Fields()
    if fields.id is None:
        fields = replace(fields, id=UNSET)
    if fields.metadata is None:
        fields = replace(fields, metadata=())
    texts: list[str] = []
    labels: list[str] = []
    unlabelled: Origin | None = None
    n_blank = 0
    rows = read_all([source], format=format, fields=fields, dialect=dialect)
    for document in settle_blanks(rows, None):
        if isinstance(document, Blank):
            n_blank += 1
            continue
        if isinstance(document, Rejected):
            raise RowError(str(document))
        if not isinstance(document.label, str):
            # Read on: if no row has the field, the reader's error lists the existing ones.
            unlabelled = unlabelled or document.origin
            continue
        texts.append(document.text)
        labels.append(document.label)
    if unlabelled is not None:
        raise RowError(f"{unlabelled}: a test document needs a label (field {fields.label_name!r})")
    if n_blank:
        name = source_name(source) if isinstance(source, str | Path) else "<memory>"
        logger.warning("%s: rows without a text, which are left out: %d", name, n_blank)
    return texts, labels


def read_queries(
    source: Source,
    *,
    text_field: str | None,
    stored_text_field: str = DEFAULT_TEXT_NAME,
    format: Format | str = Format.AUTO,
    dialect: Dialect | None = None,
) -> list[tuple[str | None, str]]:
    """Return the ids (None for none) and texts of a file of queries; raises `RowError`.

    The text is in ``text_field`` or, where that is None, in the stored field, else in ``text``. The
    id is in the field ``id``, else in ``_id``. Other fields of a row are ignored.
    """
    queries = []
    fields = QueryFields.of_texts(text_field, stored=stored_text_field)
    for row in read_all([source], format=format, fields=fields, dialect=dialect):
        if isinstance(row, Rejected):
            raise RowError(str(row))
        queries.append((row.id, row.text))
    return queries


def read_texts(
    source: Source,
    *,
    text_field: str = DEFAULT_TEXT_NAME,
    format: Format | str = Format.AUTO,
    dialect: Dialect | None = None,
) -> list[str]:
    """Return the texts of a source; a table's empty cells are left out.

    Raises `RowError` for another row without a text, or `SourceError`.
    """
    return _texts(source, format, QueryFields(text=text_field, id=UNSET), dialect)


def read_ids(
    source: Source,
    *,
    id_field: str = "id",
    format: Format | str = Format.AUTO,
    dialect: Dialect | None = None,
) -> list[str]:
    """Return the ids of a file: its lines, or the values of a field. Empty cells are left out.

    Raises `RowError` for another row without an id, `SourceError` for a file without ids.
    """
    ids = _texts(source, format, IdFields(text=id_field), dialect)
    if not ids:
        name = source_name(source) if isinstance(source, str | Path) else "<memory>"
        raise SourceError(f"{name}: there are no ids")
    return ids


def _texts(
    source: Source, format_: Format | str, fields: Fields, dialect: Dialect | None
) -> list[str]:
    texts = []
    rows = read_all([source], format=format_, fields=fields, dialect=dialect)
    for row in settle_blanks(rows, None):
        if isinstance(row, Blank):
            continue
        if isinstance(row, Rejected):
            raise RowError(str(row))
        texts.append(row.text)
    return texts


def _check_fields(fields: object) -> None:
    check_type(fields, (Fields, NoneType), what="fields are given as `Fields`")


def _count(sources: Iterable[Source], on_bytes: Callable[[int, int], None]) -> OnBytes | None:
    sizes = [_file_size(source) for source in sources]
    if None in sizes:
        return None
    n_done, n_total = 0, sum(size for size in sizes if size is not None)

    def count(n_more: int) -> None:
        nonlocal n_done
        n_done += n_more
        on_bytes(n_done, n_total)

    return count


def _file_size(source: Source) -> int | None:
    """Return the size of a regular file in bytes; None for any other source."""
    if not isinstance(source, str | Path) or is_stdin(source):
        return None
    with named_errors(source_name(source)):
        status = Path(source).stat()
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _read(
    source: Source,
    format_: Format,
    fields: Fields | None,
    dialect: Dialect | None,
    on_bytes: OnBytes | None,
) -> Iterator[Reading]:
    if isinstance(source, str | Path):
        return read_source(
            source, format=format_, fields=fields, dialect=dialect, on_bytes=on_bytes
        )
    if is_frame(source):
        return mark_cells(read_frame(source, fields=fields))
    if is_polars_frame(source):
        return mark_cells(read_polars(source, fields=fields))
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise SourceError("a source is a path, a data frame or an iterable of mappings")
    return read_mappings(source, fields=fields)
