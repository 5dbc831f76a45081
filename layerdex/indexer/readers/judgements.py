"""Queries of an evaluation, and the documents that were judged relevant to them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from layerdex.choices import Format
from layerdex.errors import RowError, SourceError
from layerdex.indexer.readers.formats import SUFFIXES
from layerdex.indexer.readers.query_fields import BEIR_ID, QueryFields
from layerdex.indexer.readers.sources import read_all
from layerdex.indexer.readers.streams import is_stdin, open_stream, source_name
from layerdex.records import Origin, Rejected, Source

_TREC_COLUMNS = 4  # query, iteration, document, grade
_BEIR_COLUMNS = 3  # query, document, grade
_MARCO_COLUMNS = 2  # id, text

Line = tuple[Origin, list[str]]


def read_judged_queries(
    source: Source, *, text_field: str = "text", id_field: str | None = None
) -> tuple[list[str], list[str]]:
    """Return ids and texts of queries, from any format or a tsv of ids and texts without header.

    The id is in the field ``id_field``, by default ``id`` or, as in BEIR, ``_id``. Raises
    `SourceError` for an empty source, `RowError` for a query without an id or a text.
    """
    rows = _unnamed_rows(source, text_field)
    if rows is not None:
        source, id_field = rows, "id"
    ids, texts = [], []
    fields = QueryFields(text=text_field, id=id_field)
    for row in read_all([source], fields=fields):
        if isinstance(row, Rejected):
            raise RowError(str(row))
        identifier = row.id
        if identifier is None and id_field is None and row.metadata.get(BEIR_ID) is not None:
            identifier = str(row.metadata[BEIR_ID])
        if identifier is None:
            raise RowError(f"{row.origin}: a query needs an id (name its field with --id-field)")
        ids.append(identifier)
        texts.append(row.text)
    if not ids:
        raise SourceError(f"{_name(source)}: there are no queries")
    return ids, texts


def _name(source: Source) -> str:
    return source_name(source) if isinstance(source, str | Path) else "<memory>"


def _unnamed_rows(source: Source, text_field: str) -> list[dict[str, str]] | None:
    """Return the rows of a tab-separated file without a header, None for any other source."""
    if not isinstance(source, str | Path) or is_stdin(source):
        return None
    if SUFFIXES.get(Path(source).suffix.lower()) is not Format.TSV:
        return None
    lines = _split(source)
    first = next(lines, None)
    if first is None or len(first[1]) != _MARCO_COLUMNS or text_field in first[1]:
        return None
    rows = []
    for origin, cells in chain([first], lines):
        if len(cells) != _MARCO_COLUMNS:
            raise RowError(f"{origin}: {len(cells)} columns, not an id and a text")
        rows.append({"id": cells[0], text_field: cells[1]})
    return rows


def read_judgements(source: str | Path) -> dict[str, dict[str, int]]:
    """Return the grade of each judged document by query, from TREC's qrels or BEIR's tsv.

    TREC's lines are query, iteration, document and grade; BEIR's have a header and no iteration.
    Raises `SourceError` for an empty file, `RowError` for a line of another form, a grade that is
    not a whole number, or two grades of the same document.
    """
    judgements: dict[str, dict[str, int]] = {}
    for n_before, (origin, cells) in enumerate(_split(source)):
        if len(cells) not in (_BEIR_COLUMNS, _TREC_COLUMNS):
            raise RowError(
                f"{origin}: {len(cells)} columns: a judgement is 'query iteration document grade' "
                "(TREC), or 'query document grade' (BEIR)"
            )
        query, document, grade = cells[0], cells[-2], cells[-1]
        if n_before == 0 and not _is_whole(grade) and grade.isidentifier():
            continue  # BEIR's header: query-id, corpus-id, score
        if not _is_whole(grade):
            raise RowError(f"{origin}: the grade {grade!r} is not a whole number")
        grades = judgements.setdefault(query, {})
        if document in grades:
            raise RowError(f"{origin}: document {document!r} is judged twice for query {query!r}")
        grades[document] = int(grade)
    if not judgements:
        raise SourceError(f"{_name(source)}: there are no judgements")
    return judgements


def _is_whole(cell: str) -> bool:
    digits = cell.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 10


def _split(source: str | Path) -> Iterator[Line]:
    """Yield the cells of each line that is not blank, separated by tabs, else by whitespace."""
    name = source_name(source)
    with open_stream(source) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
        try:
            for number, line in enumerate(text, start=1):
                if line.strip():
                    separator = "\t" if "\t" in line else None
                    yield Origin(name, number), line.rstrip("\r\n").split(separator)
        except UnicodeDecodeError:
            raise SourceError(f"{name}: is not UTF-8") from None
