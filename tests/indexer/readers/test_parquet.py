from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, Reading, read_source
from tests.indexer.readers.sources import documents, reasons


def read(tmp_path: Path, columns: dict[str, Any], fields: Fields | None = None) -> list[Reading]:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    return list(read_source(path, fields=fields or Fields()))


def test_types_become_json_scalars(tmp_path: Path) -> None:
    moment = dt.datetime(2024, 2, 29, 1, 2, 3)
    columns = {
        "text": pa.array(["a"], pa.large_string()),
        "label": pa.array(["x"]).dictionary_encode(),
        "id": pa.array([7], pa.uint8()),
        "ns": pa.array([moment], pa.timestamp("ns")),
        "day": pa.array([moment.date()]),
        "price": pa.array([1.25], pa.float32()),
        "metadata": pa.array([{"k": 1, "l": None}]),
    }
    (document,) = documents(read(tmp_path, columns))
    assert (document.text, document.label, document.id) == ("a", "x", "7")
    assert document.metadata == {
        "ns": "2024-02-29T01:02:03",
        "day": "2024-02-29",
        "price": 1.25,
        "k": 1,
        "l": None,
    }


def test_a_cell_that_is_no_text_spoils_its_row_alone(tmp_path: Path) -> None:
    broken = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    first, second, third = reasons(read(tmp_path, {"text": broken, "m": [1, 2, 3]}))
    assert (first, third) == (None, None)
    assert second is not None
    assert second.startswith("text cannot be read: 'utf-8' codec can't decode byte 0xff")


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (pa.timestamp("ns"), "1969-12-31T23:59:59.999999999"),
        (pa.timestamp("ns", "UTC"), "1969-12-31T23:59:59.999999999+00:00"),
        (pa.timestamp("ns", "+02:00"), "1970-01-01T01:59:59.999999999+02:00"),
    ],
)
def test_nanoseconds_of_a_moment_are_kept(type_: Any, expected: str, tmp_path: Path) -> None:
    moments = pa.array([0, -1, None]).cast(type_)
    first, second, third = documents(read(tmp_path, {"text": ["a", "b", "c"], "m": moments}))
    assert second.metadata == {"m": expected}
    assert str(first.metadata["m"]) == pd.Timestamp(0, tz=type_.tz).isoformat()
    assert third.metadata == {"m": None}
    assert pd.Timestamp(expected).value == -1


def test_nanoseconds_of_a_time_are_kept(tmp_path: Path) -> None:
    times = pa.array([3_600_000_000_001, 60_000_000_000]).cast(pa.time64("ns"))
    found = documents(read(tmp_path, {"text": ["a", "b"], "m": times}))
    assert [one.metadata["m"] for one in found] == ["01:00:00.000000001", "00:01:00"]


@pytest.mark.parametrize("zone", ["tzutc()", "Mars/Olympus_Mons", "tzlocal()"])
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_moment_in_an_unknown_zone_is_in_utc(zone: str, unit: str, tmp_path: Path) -> None:
    moment = dt.datetime(2024, 5, 1, 9, 30, tzinfo=dt.UTC)
    moments = pa.array([moment], pa.timestamp("s", "UTC")).cast(pa.timestamp(unit, zone))
    (document,) = documents(read(tmp_path, {"text": ["a"], "at": moments}))
    assert document.metadata == {"at": moment.isoformat()}


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([[1], [2]]), "nested (list)"),
        (pa.array([{"k": 1}] * 2), "nested (object)"),
        (pa.array([b"x", b"y"]), "neither text, a number, true/false nor a date (bytes)"),
        (
            pa.array([1, 2], pa.duration("s")),
            "neither text, a number, true/false nor a date (timedelta)",
        ),
    ],
)
def test_a_column_of_a_bad_type_is_refused_once(column: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "m": column}), path)
    with pytest.raises(SourceError) as caught:
        list(read_source(path))
    advice = "name the fields to keep with --metadata-field"
    assert str(caught.value) == f"{path}:1: metadata field 'm' is {reason}; {advice}"
    found = documents(list(read_source(path, fields=Fields(metadata=()))))
    assert [document.metadata for document in found] == [{}, {}]


def test_a_column_of_a_bad_type_may_begin_with_null(tmp_path: Path) -> None:
    column = pa.array([None, ["x"], ["y"]])
    with pytest.raises(SourceError, match=r":2: metadata field 'm' is nested \(list\)"):
        read(tmp_path, {"text": ["a", "b", "c"], "m": column})


def test_a_column_of_lists_without_a_value_is_null(tmp_path: Path) -> None:
    column = pa.array([None, None], pa.list_(pa.string()))
    found = documents(read(tmp_path, {"text": ["a", "b"], "tags": column}))
    assert [document.metadata for document in found] == [{"tags": None}] * 2


def test_a_text_column_of_another_type_is_refused_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.parquet:1: text is not a string \(int\)"):
        read(tmp_path, {"text": [1, 2]})


def test_fields_of_an_object_are_found_by_their_paths(tmp_path: Path) -> None:
    data = pa.array([{"text": "a", "by": {"name": "x"}, "n": 3}])
    fields = Fields(text="data.text", label="data.by.name", metadata=("data.n",))
    (document,) = documents(read(tmp_path, {"data": data, "m": [1]}, fields))
    assert (document.text, document.label, document.metadata) == ("a", "x", {"data.n": 3})
    with pytest.raises(SourceError, match=r"no text field 'data\.txt'"):
        read(tmp_path, {"data": data}, Fields(text="data.txt"))


def test_unwanted_columns_are_not_judged(tmp_path: Path) -> None:
    columns = {"text": ["a"], "m": [1], "bad": pa.array([b"\xff"]).view(pa.string())}
    (document,) = documents(read(tmp_path, columns, Fields(metadata=("m",))))
    assert document.metadata == {"m": 1}


def test_named_metadata_may_lie_in_the_metadata_column(tmp_path: Path) -> None:
    columns = {"text": ["a"], "metadata": pa.array([{"k": 1, "o": 2}])}
    (document,) = documents(read(tmp_path, columns, Fields(metadata=("k",))))
    assert document.metadata == {"k": 1}
    with pytest.raises(SourceError, match="no metadata field 'x'; there is 'text', 'metadata'"):
        read(tmp_path, columns, Fields(metadata=("x",)))


def test_repeated_columns_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["text", "text"]), path)
    with pytest.raises(SourceError, match="'text' is the name of more than one column"):
        list(read_source(path))


@pytest.mark.parametrize("data", [b"", b"not parquet at all", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_broken_file_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.parquet: ."):
        list(read_source(path))


def test_damaged_pages_are_a_source_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(1000)]}), path)
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.parquet: ."):
        list(read_source(path))


def test_rows_are_numbered_through_all_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [str(i) for i in range(10_000)]}), path, row_group_size=300)
    readings = documents(list(read_source(path)))
    assert [one.text for one in readings] == [str(i) for i in range(10_000)]
    assert [one.origin.line for one in readings] == list(range(1, 10_001))


def test_names_that_are_no_utf8_are_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "source.parquet"
    table = pa.table({"text": ["a"], "zzzz": ["b"]})
    # Without pyarrow's own copy of the schema, in which the name would stay.
    pq.write_table(table, path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"zzzz", b"zz\x8fz"))
    with pytest.raises(SourceError, match="broken parquet file") as caught:
        list(read_source(path))
    assert "\n" not in str(caught.value)
