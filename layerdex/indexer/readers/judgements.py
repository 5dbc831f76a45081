"""Queries of an evaluation, and the documents that were judged relevant to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from layerdex.choices import Format
from layerdex.errors import RowError, SourceError
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.formats import SUFFIXES
from layerdex.indexer.readers.query_fields import QueryFields
from layerdex.indexer.readers.row_size import (
    MAX_ROW_BYTES,
    bound_lines,
    describe_long,
    is_long_line,
)
from layerdex.indexer.readers.sources import read_all
from layerdex.indexer.readers.streams import is_stdin, open_stream, source_name
from layerdex.indexer.readers.values import kind
from layerdex.records import Origin, Rejected, Source

_TREC_COLUMNS = 4  # query, iteration, document, grade
_BEIR_COLUMNS = 3  # query, document, grade
_BEIR_NAMES = ("query-id", "corpus-id", "score")
_TOO_LARGE = 10**9
_MARCO_COLUMNS = 2  # id, text

Line = tuple[Origin, list[str]]


def read_judged_queries(
    source: Source,
    *,
    text_field: str = "text",
    id_field: str | None = None,
    dialect: Dialect | None = None,
) -> tuple[list[str], list[str]]:
    """Return ids and texts of queries, from any format or a tsv of ids and texts without header.

    The id is in the field ``id_field``, by default ``id`` or, as in BEIR, ``_id``. Other fields are
    not read, whatever they hold. Raises `SourceError` for an empty source, `RowError` for a query
    without an id or a text.
    """
    max_row_bytes = MAX_ROW_BYTES if dialect is None else dialect.max_row_bytes
    rows = _unnamed_rows(source, text_field, max_row_bytes)
    if rows is not None:
        source, id_field = rows, "id"
    ids, texts = [], []
    fields = QueryFields(text=text_field, id=id_field)
    for row in read_all([source], fields=fields, dialect=dialect):
        if isinstance(row, Rejected):
            raise RowError(str(row))
        if row.id is None:
            raise RowError(f"{row.origin}: a query needs an id (name its field with --id-field)")
        ids.append(row.id)
        texts.append(row.text)
    if not ids:
        raise SourceError(f"{_name(source)}: there are no queries")
    return ids, texts


def _name(source: Source) -> str:
    return source_name(source) if isinstance(source, str | Path) else "<memory>"


def _unnamed_rows(
    source: Source, text_field: str, max_row_bytes: int
) -> list[dict[str, str]] | None:
    """Return the rows of a tab-separated file without a header, None for any other source."""
    if not isinstance(source, str | Path) or is_stdin(source):
        return None
    if SUFFIXES.get(Path(source).suffix.lower()) is not Format.TSV:
        return None
    lines = _split(source, max_row_bytes)
    first = next(lines, None)
    if first is None or len(first[1]) != _MARCO_COLUMNS or text_field in first[1]:
        return None
    rows = []
    for origin, cells in chain([first], lines):
        if len(cells) != _MARCO_COLUMNS:
            raise RowError(f"{origin}: {_columns(cells)}, not an id and a text")
        rows.append({"id": cells[0], text_field: cells[1]})
    return rows


def read_judgements(source: str | Path) -> dict[str, dict[str, int]]:
    """Return the grade of each judged document by query, from TREC's qrels or BEIR's tsv or jsonl.

    TREC's lines are query, iteration, document and grade; BEIR's have a header and no iteration, or
    are objects with the names of the header: ``query-id``, ``corpus-id`` and ``score``.
    A grade is a whole number, which 1.0 is too; a judgement may be repeated. Raises `SourceError`
    for an empty file, `RowError` for a line of another form, a grade that is not a whole number, or
    two different grades of the same document.
    """
    judgements: dict[str, dict[str, int]] = {}
    lines: dict[tuple[str, str], int | None] = {}
    for n_before, (origin, cells) in enumerate(_split(source)):
        if len(cells) not in (_BEIR_COLUMNS, _TREC_COLUMNS):
            advice = "; separate them with tabs, not commas" if "," in cells[0] else ""
            raise RowError(
                f"{origin}: {_columns(cells)}: a judgement is 'query iteration document grade' "
                f"(TREC), or 'query document grade' (BEIR){advice}"
            )
        query, document, cell = cells[0], cells[-2], cells[-1].strip()
        grade = _whole(cell)
        if grade is None:
            if n_before == 0 and _is_name(cell):
                continue  # BEIR's header: query-id, corpus-id, score
            raise RowError(f"{origin}: the grade {cell!r} is not a whole number")
        first = judgements.setdefault(query, {}).setdefault(document, grade)
        line = lines.setdefault((query, document), origin.line)
        if first != grade:
            raise RowError(
                f"{origin}: document {document!r} of query {query!r} has the grade {grade} here, "
                f"and {first} in line {line}"
            )
    if not judgements:
        raise SourceError(f"{_name(source)}: there are no judgements")
    return judgements


def _columns(cells: list[str]) -> str:
    return "1 column" if len(cells) == 1 else f"{len(cells)} columns"


def _whole(cell: str) -> int | None:
    """Return a grade as a whole number, None where it is not one of at most nine digits."""
    try:
        number = float(cell)
    except ValueError:
        return None
    # Python's numbers may have underscores, and digits of other scripts.
    is_plain = cell.isascii() and "_" not in cell
    return int(number) if is_plain and number.is_integer() and abs(number) < _TOO_LARGE else None


def _is_name(cell: str) -> bool:
    return cell.isidentifier() and cell.lower() not in ("nan", "inf", "infinity")


def _split(source: str | Path, max_row_bytes: int = MAX_ROW_BYTES) -> Iterator[Line]:
    """Yield the cells of each line that is not blank, separated by tabs, else by whitespace.

    Those of an object are the values of BEIR's names.
    """
    name = source_name(source)
    with open_stream(source) as stream:
        try:
            for number, row in enumerate(bound_lines(stream, max_row_bytes), start=1):
                origin = Origin(name, number)
                if is_long_line(row, max_row_bytes):
                    raise RowError(f"{origin}: {describe_long(max_row_bytes)}")
                line = row.decode()
                if line.startswith("{"):
                    yield origin, _split_object(line, origin)
                elif line.strip():
                    separator = "\t" if "\t" in line else None
                    yield origin, line.rstrip("\r\n").split(separator)
        except UnicodeDecodeError:
            raise SourceError(f"{name}: is not UTF-8") from None


def _split_object(line: str, origin: Origin) -> list[str]:
    try:
        row = json.loads(line)
        cells = [row[name] for name in _BEIR_NAMES]
    except (ValueError, RecursionError) as error:
        raise RowError(f"{origin}: is not a JSON object") from error
    except KeyError as error:
        raise RowError(f"{origin}: the judgement has no field {error}") from None
    for name, cell in zip(_BEIR_NAMES, cells, strict=True):
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            raise RowError(f"{origin}: {name!r} is neither text nor a number ({kind(cell)})")
    return [str(cell) for cell in cells]
