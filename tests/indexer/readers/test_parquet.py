from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("type_", [pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.time64("ns")])
def test_cells_that_have_no_value_spoil_their_row_alone(type_: Any, tmp_path: Path) -> None:
    broken = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    nanoseconds = pa.array([0, 0, 1]).cast(type_)
    readings = read(tmp_path, {"text": broken, "m": nanoseconds})
    first, second, third = reasons(readings)
    assert first is None
    assert second is not None
    assert second.startswith("text cannot be read: 'utf-8' codec can't decode byte 0xff")
    assert third is not None
    assert third.startswith("metadata field 'm' cannot be read: ")
    assert "would lose data" in third


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
