"""Writing sources for the tests of the readers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, Reading, read_frame, read_mappings, read_source
from layerdex.records import Rejected, SourceDocument

Row = Mapping[str, object]
READ_AS = ("jsonl", "json", "parquet", "csv", "tsv", "mappings", "frame")
TYPED = ("jsonl", "json", "parquet", "mappings", "frame")
JSONLIKE = ("jsonl", "json", "mappings")


def write_jsonl(rows: Sequence[Row], path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(rows: Sequence[Row], path: Path) -> None:
    path.write_text(json.dumps(rows))


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def write_delimited(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(rows[0])
        writer.writerows(row.values() for row in rows)


WRITERS: dict[str, Callable[[Sequence[Row], Path], None]] = {
    "jsonl": write_jsonl,
    "json": write_json,
    "parquet": write_parquet,
    "csv": write_delimited,
    "tsv": write_delimited,
}


def read_as(kind: str, rows: Sequence[Row], folder: Path, fields: Fields) -> list[Reading]:
    """Write rows as a source of one kind and read them back."""
    if kind == "mappings":
        return list(read_mappings(rows, fields=fields))
    if kind == "frame":
        return list(read_frame(pd.DataFrame(rows), fields=fields))
    path = folder / f"source.{kind}"
    WRITERS[kind](rows, path)
    return list(read_source(path, fields=fields))


def documents(readings: Sequence[Reading]) -> list[SourceDocument]:
    """Return the documents; fail with the reason of the first rejected row."""
    rejected = [str(one) for one in readings if isinstance(one, Rejected)]
    assert not rejected
    return [one for one in readings if isinstance(one, SourceDocument)]


def reasons(readings: Sequence[Reading]) -> list[str | None]:
    """Return each row's reason, None for a document."""
    return [one.reason if isinstance(one, Rejected) else None for one in readings]


def verdicts(kind: str, rows: Sequence[Row], folder: Path, fields: Fields) -> list[str | None]:
    """Return the reasons of `read_as`, or as the only one what is wrong with the whole source."""
    try:
        return reasons(read_as(kind, rows, folder, fields))
    except SourceError as error:
        place, _, reason = str(error).partition(": ")
        assert place.startswith((str(folder), "<memory>"))
        return [reason]
