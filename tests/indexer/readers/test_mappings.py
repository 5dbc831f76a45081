from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, read_frame, read_mappings
from layerdex.records import Origin, SourceDocument
from tests.indexer.readers.sources import documents, reasons


def test_mappings_are_numbered_from_one() -> None:
    readings = list(read_mappings({"text": text} for text in ("a", "", "c")))
    assert readings[0] == SourceDocument("a", origin=Origin("<memory>", 1))
    assert reasons(readings) == [None, "text is empty", None]
    assert str(readings[1]) == "<memory>:2: text is empty"


def test_row_that_is_no_mapping_is_rejected() -> None:
    rows: list[dict[str, object]] = ["text"]  # type: ignore[list-item]
    assert reasons(list(read_mappings(rows))) == ["the row is not an object (string)"]


def test_names_that_are_no_strings_are_rejected() -> None:
    row: dict[str, object] = {"text": "a", 0: 1}  # type: ignore[dict-item]
    expected = "metadata field 0 has a name that is no string (int)"
    assert reasons(list(read_mappings([row]))) == [expected]


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


def test_importing_the_readers_loads_no_heavy_package() -> None:
    code = (
        "import sys, layerdex.indexer.readers as corpus; corpus.read_source; "
        "print(sorted({'pyarrow', 'pandas', 'torch', 'transformers', 'faiss'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


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
