"""The formats of sources, and the check of all sources before a run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from layerdex.arguments import is_path
from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers.listing import Listing
from layerdex.indexer.readers.spreadsheet import import_calamine
from layerdex.indexer.readers.streams import is_stdin, named_errors, process_stdin, source_name

SUFFIXES = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSON,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".xlsx": Format.XLSX,
    ".xlsm": Format.XLSX,
    ".xlsb": Format.XLSX,
    ".xls": Format.XLSX,
    ".ods": Format.XLSX,
    ".txt": Format.TXT,
    ".text": Format.TXT,
}

NOT_FROM_STDIN = (Format.PARQUET, Format.XLSX, Format.FOLDER)


def check_sources(
    sources: Iterable[str | Path],
    *,
    format: Format = Format.AUTO,
) -> None:
    """Check that each source exists, is readable and has a known format, without reading it.

    Raises `SourceError` for the first that does not, or `MissingPackageError` for a spreadsheet.
    """
    n_stdin = 0
    for source in sources:
        resolved = resolve_format(source, format)
        if is_stdin(source):
            n_stdin += 1
            process_stdin()
        else:
            _check_readable(Path(source), resolved)
    if n_stdin > 1:
        raise SourceError("standard input (-) is given more than once, but can be read only once")


def resolve_format(source: str | Path, requested: Format) -> Format:
    """Return the format of a source; `Format.AUTO` only for standard input.

    Raises `SourceError` if the source is missing, its format is unknown or impossible, or a folder
    holds nothing but tables of one format and ``requested`` is `Format.AUTO`.
    """
    if is_stdin(source):
        if requested in NOT_FROM_STDIN:
            raise SourceError(f"<stdin>: {requested} cannot be read from standard input")
        return requested
    mode = _mode(source)
    is_folder = stat.S_ISDIR(mode)
    if is_folder != (requested is Format.FOLDER) and requested is not Format.AUTO:
        what = "a folder; use --format folder" if is_folder else "not a folder"
        raise SourceError(f"{source_name(source)}: is {what}")
    if is_folder and requested is Format.AUTO:
        _check_no_shards(Path(source))
    if is_folder:
        return Format.FOLDER
    format_ = _by_suffix(source) if requested is Format.AUTO else requested
    if format_ in NOT_FROM_STDIN and not stat.S_ISREG(mode):
        raise SourceError(f"{source_name(source)}: {format_} is read from regular files only")
    return format_


# Spark writes _SUCCESS beside the parts; the others lie in the folders of data sets.
_BESIDE_PARTS = ("_", ".", "README", "LICENSE", "dataset_info")


def _check_no_shards(folder: Path) -> None:
    """Raise `SourceError` for the parts of a table, each of which would be one document."""
    first: Path | None = None
    for path in _files(folder):
        if path.name.startswith(_BESIDE_PARTS):
            continue
        first = first or path
        format_ = SUFFIXES.get(path.suffix.lower(), Format.TXT)
        if format_ is Format.TXT or format_ is not SUFFIXES[first.suffix.lower()]:
            return
    if first is not None:
        depth = len(first.relative_to(folder).parts) - 1
        pattern = source_name(folder / ("*/" * depth + f"*{first.suffix}"))
        raise SourceError(
            f"{source_name(folder)}: holds only {SUFFIXES[first.suffix.lower()]} files: give the "
            f"files themselves ({pattern}), or --format folder to read each as one document"
        )


def _files(folder: Path) -> Iterator[Path]:
    with named_errors(source_name(folder)):
        yield from (entry.path for entry in Listing(folder) if entry.fault is None)


_COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip"}


def _by_suffix(source: str | Path) -> Format:
    suffix = Path(source).suffix
    if suffix.lower() in SUFFIXES:
        return SUFFIXES[suffix.lower()]
    if suffix.lower() in _COMPRESSED:
        inner = Path(source).with_suffix("").suffix.lower()
        format_ = SUFFIXES.get(inner, Format.JSONL)
        raise SourceError(
            f"{source_name(source)}: compressed files are not supported; decompress it to standard "
            f"input, and use - with --format {format_}"
        )
    formats = ", ".join(format_ for format_ in Format if format_ is not Format.AUTO)
    what = f"unknown extension {suffix!r}" if suffix else "no extension"
    raise SourceError(f"{source_name(source)}: {what}; say which with --format ({formats})")


def _mode(source: str | Path) -> int:
    if not is_path(source):
        raise SourceError(f"{str(source)!r} is not the name of a source")
    with named_errors(source_name(source)):
        return Path(source).stat().st_mode


def _check_readable(path: Path, format_: Format) -> None:
    if format_ is Format.XLSX:
        import_calamine()
    with named_errors(source_name(path)):
        if format_ is Format.FOLDER:
            os.scandir(path).close()
        elif path.is_file():  # opening a named pipe would wait for its writer
            path.open("rb").close()
