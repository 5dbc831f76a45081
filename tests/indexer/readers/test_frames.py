from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, read_frame, read_source
from layerdex.indexer.readers.sources import read_all
from layerdex.records import SourceDocument
from tests.indexer.readers.sources import documents, reasons


def test_missing_cells_of_a_frame_are_null() -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", "b", None],
            "label": pd.Series([1, None, 3], dtype="Int64"),
            "score": [0.5, np.nan, 1.0],
            "seen": pd.to_datetime(["2024-01-01", None, None]),
            "kind": pd.Categorical(["x", None, "y"]),
        }
    )
    readings = list(read_frame(frame))
    first, second = documents(readings[:2])
    assert (first.label, second.label) == ("1", None)
    assert first.metadata == {"score": 0.5, "seen": "2024-01-01T00:00:00", "kind": "x"}
    assert second.metadata == {"score": None, "seen": None, "kind": None}
    assert reasons(readings[2:]) == ["text is null"]


def test_frames_are_read_in_chunks_and_in_order() -> None:
    frame = pd.DataFrame({"text": [str(i) for i in range(3000)]}, index=range(3000, 0, -1))
    readings = documents(list(read_frame(frame)))
    assert [one.text for one in readings] == [str(i) for i in range(3000)]
    assert [one.origin.line for one in readings] == list(range(1, 3001))


def test_repeated_columns_of_a_frame_are_an_error() -> None:
    frame = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(SourceError, match="<memory>: 'text' is the name of more than one column"):
        read_frame(frame, fields=Fields())


def test_whole_numbers_that_pandas_made_floats_are_ids_and_labels() -> None:
    frame = pd.DataFrame(
        {"text": ["a", "b"], "id": [7.0, 8.0], "label": [1, None], "size": [1, None]}
    )
    first, second = documents(list(read_frame(frame)))
    assert (first.id, first.label, first.metadata) == ("7", "1", {"size": 1.0})
    assert (second.id, second.label) == ("8", None)


def test_a_float_that_may_have_lost_digits_is_no_id() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "id": [float(2**53 - 1), float(2**53)]})
    first, second = read_frame(frame)
    assert isinstance(first, SourceDocument)
    assert first.id == "9007199254740991"
    assert reasons([second]) == ["id is a float beyond 2^53, which may have lost digits"]


LEVELS = {
    "id": pd.Index(["r1", "r2"], name="id"),
    "two": pd.MultiIndex.from_tuples([("r1", 3), ("r2", 4)], names=["id", "stars"]),
    "half": pd.MultiIndex.from_tuples([("r1", 3), ("r2", 4)], names=["id", None]),
    "label": pd.Index(["wet", "dry"], name="label"),
}


@pytest.mark.parametrize("name", LEVELS)
def test_named_levels_of_the_index_are_columns_as_in_parquet(name: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"]}, index=LEVELS[name])
    frame.to_parquet(tmp_path / "a.parquet")
    expected = documents(list(read_source(tmp_path / "a.parquet")))
    found = documents(list(read_frame(frame)))
    assert [(one.id, one.label) for one in found] == [(one.id, one.label) for one in expected]
    assert [one.metadata for one in found] == [
        {key: value for key, value in one.metadata.items() if "level" not in key}
        for one in expected
    ]
    assert {one.id for one in found} == ({None} if name == "label" else {"r1", "r2"})
    assert list(frame.columns) == ["text"]


def test_a_level_with_the_name_of_a_column_and_one_without_a_name_are_left_out() -> None:
    frame = pd.DataFrame({"text": ["a"], "id": ["x"]}, index=pd.Index(["y"], name="id"))
    for one in (frame, frame.rename_axis(None)):
        (document,) = documents(list(read_frame(one)))
        assert (document.id, document.metadata) == ("x", {})


class Kind(str):
    """The type of a polars column."""

    def is_float(self) -> bool:
        return self.startswith("Float")


@dataclass
class Column:
    cells: list[Any]

    def to_numpy(self) -> NDArray[np.float64]:
        return np.array(self.cells, dtype=np.float64)


@dataclass
class PolarsTable:
    """What polars has of the same names; its own iteration yields columns."""

    table: dict[str, tuple[str, list[Any]]]

    @property
    def columns(self) -> list[str]:
        return list(self.table)

    @property
    def schema(self) -> dict[str, Kind]:
        return {name: Kind(kind) for name, (kind, _) in self.table.items()}

    def __getitem__(self, name: str) -> Column:
        return Column(self.table[name][1])

    def __iter__(self) -> Iterator[Column]:
        return map(self.__getitem__, self.table)

    def __len__(self) -> int:
        return len(next(iter(self.table.values()))[1])

    def iter_rows(self, *, named: bool) -> Iterator[dict[str, Any]]:
        assert named
        for cells in zip(*(cells for _, cells in self.table.values()), strict=True):
            yield dict(zip(self.table, cells, strict=True))


def test_rows_of_polars_are_documents() -> None:
    table: Any = PolarsTable(
        {
            "id": ("Int64", [1, 2]),
            "text": ("String", ["a", "b"]),
            "label": ("Float64", [1.0, None]),
            "n": ("Float64", [2.0, None]),
        }
    )
    first, second = documents(list(read_all([table])))
    assert (first.id, first.text, first.label, first.metadata) == ("1", "a", "1", {"n": 2.0})
    assert (second.id, second.text, second.label, second.metadata) == ("2", "b", None, {"n": None})
    table.table["label"] = ("Float64", [1.0, 1.5])
    assert [one.label for one in documents(list(read_all([table])))] == ["1.0", "1.5"]


def test_a_frame_of_polars_without_the_text_is_one_error() -> None:
    table: Any = PolarsTable({"body": ("String", ["a"])})
    with pytest.raises(SourceError, match="<memory>: no text field 'text'; there is 'body'"):
        list(read_all([table]))
