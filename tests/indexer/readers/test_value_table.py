"""One table of values: each has the same verdict in every format, as metadata, label and id."""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, Reading, read_frame, read_mappings, read_source
from layerdex.records import UNSET, Rejected, Scalar, Unset
from tests.indexer.readers.sources import documents

REFUSED = "refused"
KINDS = ("csv", "jsonl", "json", "parquet", "frame", "mappings")
TEXT_ONLY = ("csv",)


@dataclass(frozen=True)
class Value:
    """A value, its parquet type, and what it becomes as metadata and as a label or an id.

    ``written`` is the cell that a table has for it, None where it can have none.
    """

    value: Any
    metadata: Scalar | str | None
    label: str | None
    written: str | None
    type: Any = None
    in_json: bool = True
    id: str | None = ""
    """As the label, unless it is given."""
    label_of_whole_column: str | None = None
    """In formats with columns of floats, if it differs."""
    reason: str = ""

    @property
    def identifier(self) -> str | None:
        return self.label if self.id == "" else self.id


UTC = dt.UTC
MOMENT = dt.datetime(2024, 5, 1, 9, 30, 0, 250_000)
BERLIN = ZoneInfo("Europe/Berlin")

TABLE: dict[str, Value] = {
    "int": Value(7, 7, "7", "7"),
    "negative int": Value(-(2**63), -(2**63), str(-(2**63)), str(-(2**63))),
    "uint64 beyond 2^63": Value(
        2**64 - 1,
        "18446744073709551615",
        "18446744073709551615",
        "18446744073709551615",
        pa.uint64(),
    ),
    "float": Value(1.5, 1.5, "1.5", "1.5"),
    "whole float": Value(4.0, 4.0, "4.0", "4.0", id="4", label_of_whole_column="4"),
    "bool": Value(True, True, "true", "true"),
    "null": Value(None, None, None, "", pa.int64()),
    "null text": Value(None, None, None, "", pa.string()),
    "nan": Value(math.nan, None, None, "", pa.float64(), in_json=False),
    "infinity": Value(
        math.inf, REFUSED, REFUSED, None, in_json=False, reason="is not a finite number (inf)"
    ),
    "whole decimal": Value(Decimal("12"), 12, "12", "12", pa.decimal128(9, 0), in_json=False),
    "decimal": Value(Decimal("12.50"), 12.5, "12.50", "12.50", pa.decimal128(9, 2), in_json=False),
    "decimal no float holds": Value(
        Decimal("0.12345678901234567890"),
        "0.12345678901234567890",
        "0.12345678901234567890",
        "0.12345678901234567890",
        pa.decimal128(38, 20),
        in_json=False,
    ),
    "date": Value(dt.date(2024, 5, 1), "2024-05-01", "2024-05-01", "2024-05-01", in_json=False),
    "time": Value(dt.time(9, 30), "09:30:00", "09:30:00", "09:30:00", in_json=False),
    "timestamp": Value(
        MOMENT,
        "2024-05-01T09:30:00.250000",
        "2024-05-01T09:30:00.250000",
        "2024-05-01T09:30:00.250000",
        in_json=False,
    ),
    "timestamp in a zone": Value(
        MOMENT.replace(tzinfo=BERLIN),
        "2024-05-01T09:30:00.250000+02:00",
        "2024-05-01T09:30:00.250000+02:00",
        "2024-05-01T09:30:00.250000+02:00",
        pa.timestamp("us", "Europe/Berlin"),
        in_json=False,
    ),
    "timestamp of nanoseconds": Value(
        pd.Timestamp("2024-05-01T09:30:00.123456789"),
        "2024-05-01T09:30:00.123456789",
        "2024-05-01T09:30:00.123456789",
        "2024-05-01T09:30:00.123456789",
        pa.timestamp("ns"),
        in_json=False,
    ),
    "text": Value("a,b", "a,b", "a,b", "a,b"),
    "large text": Value("käse", "käse", "käse", "käse", pa.large_string()),
    "categorical": Value("x", "x", "x", "x", pa.dictionary(pa.int32(), pa.string())),
    "list": Value([1, 2], REFUSED, REFUSED, None, id=REFUSED, reason="list"),
    "list of one": Value(["x"], REFUSED, "x", None, id=REFUSED, reason="is nested (list)"),
    "object": Value({"k": 1}, REFUSED, REFUSED, None, id=REFUSED, reason="is nested (object)"),
    "binary": Value(
        b"x",
        REFUSED,
        REFUSED,
        None,
        in_json=False,
        reason="is neither text, a number, true/false nor a date (bytes)",
    ),
}


def read(kind: str, name: str, field: str, folder: Path) -> list[Reading]:
    """Read a row with the value of the table in ``field``, after one without it."""
    one = TABLE[name]
    rows: list[dict[str, Any]] = [{"text": "a", field: one.value}]
    path = folder / f"a.{kind}"
    if kind == "mappings":
        return list(read_mappings(rows))
    if kind == "frame":
        frame = pd.DataFrame(rows)
        if name == "categorical":
            frame[field] = frame[field].astype("category")
        return list(read_frame(frame))
    if kind == "parquet":
        table = pa.table({"text": ["a"], field: pa.array([one.value], one.type)})
        pq.write_table(table, path)
    elif kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["text", field], ["a", one.written]])
    else:
        path.write_text(json.dumps(rows[0] if kind == "jsonl" else rows))
    return list(read_source(path))


def verdict(kind: str, name: str, field: str, folder: Path) -> object:
    """Return what the value became, or REFUSED; the reason is checked."""
    try:
        (reading,) = read(kind, name, field, folder)
        reason = reading.reason if isinstance(reading, Rejected) else None
    except SourceError as error:
        reason = str(error)
    if reason is not None:
        shown = f"metadata field '{field}'" if field == "m" else field
        assert shown in reason
        assert TABLE[name].reason in reason
        return REFUSED
    (document,) = documents([reading])
    found: dict[str, str | Unset | Scalar | None] = {"id": document.id, "label": document.label}
    return {**found, **document.metadata}[field]


def formats_of(one: Value) -> Sequence[str]:
    return [
        kind
        for kind in KINDS
        if (kind != "csv" or one.written is not None)
        and (kind not in ("json", "jsonl") or one.in_json)
    ]


CASES = [(name, kind) for name, one in TABLE.items() for kind in formats_of(one)]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_metadata_has_the_verdict_of_the_table(name: str, kind: str, tmp_path: Path) -> None:
    one = TABLE[name]
    expected = one.metadata
    if kind == "csv":  # every cell is text, and an empty one is null
        expected = one.written or None
    found = verdict(kind, name, "m", tmp_path)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_label_has_the_verdict_of_the_table(name: str, kind: str, tmp_path: Path) -> None:
    found, one = verdict(kind, name, "label", tmp_path), TABLE[name]
    assert found is not UNSET
    is_column = one.label_of_whole_column is not None and kind in ("parquet", "frame")
    assert found == (one.label_of_whole_column if is_column else one.label)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_id_has_the_verdict_of_the_table(name: str, kind: str, tmp_path: Path) -> None:
    expected = TABLE[name].written if kind == "csv" else TABLE[name].identifier
    assert verdict(kind, name, "id", tmp_path) == (expected or None)


def test_labels_of_a_table_are_what_a_csv_writer_writes() -> None:
    """The cell of the table is what the csv module or pandas writes for the value."""
    plain: list[Callable[[Any], str]] = [str, lambda value: pd.Series([value]).to_csv(index=False)]
    for name in ("int", "float", "whole float", "date", "time", "decimal", "uint64 beyond 2^63"):
        one = TABLE[name]
        assert one.label == one.written
        assert all(one.written in write(one.value) for write in plain if one.written is not None)


@pytest.mark.parametrize("kind", ["frame", "parquet"])
def test_integers_with_gaps_that_became_floats_are_integers_as_labels(
    kind: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [1, None, 3]})
    assert frame["label"].dtype.kind == "f"
    if kind == "frame":
        found = documents(list(read_frame(frame)))
    else:
        frame.to_parquet(tmp_path / "a.parquet")
        found = documents(list(read_source(tmp_path / "a.parquet")))
    assert [one.label for one in found] == ["1", None, "3"]


@pytest.mark.parametrize("kind", ["frame", "parquet"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "Float64"])
def test_parts_of_a_column_of_whole_floats_have_the_same_labels(
    kind: str, dtype: str, tmp_path: Path
) -> None:
    stars = pd.Series([1.0, None, 0.0, 1.0, -2.0], dtype="Float64").astype(dtype)
    whole = pd.DataFrame({"text": list("abcde"), "label": stars})
    found = []
    for part in (whole[:3], whole[3:]):
        if kind == "frame":
            found += documents(list(read_frame(part)))
        else:
            part.to_parquet(tmp_path / "a.parquet")
            found += documents(list(read_source(tmp_path / "a.parquet")))
    assert [one.label for one in found] == ["1", None, "0", "1", "-2"]


@pytest.mark.parametrize("kind", ["frame", "parquet"])
def test_one_fraction_makes_all_labels_of_a_long_column_fractions(
    kind: str, tmp_path: Path
) -> None:
    n = 9000  # more than a chunk of a frame, and a batch of parquet
    frame = pd.DataFrame({"text": ["a"] * n, "label": [1.0] * (n - 1) + [1.5]})
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=4000)
    readings = read_frame(frame) if kind == "frame" else read_source(tmp_path / "a.parquet")
    assert {one.label for one in documents(list(readings))} == {repr(1.0), repr(1.5)}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "frame"])
def test_half_stars_are_the_same_labels_in_every_format(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "stars": [1.5, 4.0]})
    path = tmp_path / f"a.{kind}"
    fields = Fields(label="stars")
    if kind == "frame":
        found = documents(list(read_frame(frame, fields=fields)))
    else:
        if kind == "csv":
            frame.to_csv(path, index=False)
        elif kind == "jsonl":
            rows = frame.to_dict("records")
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            frame.to_parquet(path)
        found = documents(list(read_source(path, fields=fields)))
    assert [one.label for one in found] == ["1.5", "4.0"]
