"""Names of classes in the parquet files of Hugging Face datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layerdex.indexer.readers import Fields, read_source
from layerdex.indexer.readers.pairs import read_pairs
from tests.indexer.readers.sources import documents

NAMED = {"names": ["dry", "wet"], "_type": "ClassLabel"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.parquet"


def write(path: Path, columns: dict[str, Any], features: object) -> None:
    stored = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(columns).replace_schema_metadata(stored), path)


def labels(path: Path, fields: Fields | None = None) -> list[object]:
    return [one.label for one in documents(list(read_source(path, fields=fields)))]


@pytest.mark.parametrize("name", ["label", "weather"])
def test_labels_are_the_names_of_their_classes(
    path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {"text": list("abcde"), name: pa.array([1, 0, None, -1, 2], pa.int64())}
    write(path, columns, {"text": {"dtype": "string", "_type": "Value"}, name: NAMED})
    assert labels(path, Fields(label=name)) == ["wet", "dry", None, None, "2"]
    assert caplog.messages == [
        f"{path}: labels are the names that the file has for the classes in {name!r} ('dry', 'wet')"
    ]


def test_classes_that_are_ids_stay_numbers(path: Path) -> None:
    write(path, {"text": ["a", "b"], "label": [1, 0]}, {"label": NAMED})
    found = documents(list(read_source(path, fields=Fields(id="label", label="label"))))
    assert [one.id for one in found] == ["1", "0"]


def test_classes_of_other_columns_stay_numbers(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, {"text": ["a"], "kind": [1]}, {"kind": NAMED})
    (document,) = documents(list(read_source(path)))
    assert document.metadata == {"kind": 1}
    assert caplog.messages == []


@pytest.mark.parametrize(
    "features",
    [
        {"label": {"dtype": "int64", "_type": "Value"}},
        {"label": {"names": "ab", "_type": "ClassLabel"}},
        {"label": {"names": [1, 2]}},
        {"label": {"names": ["", "wet"]}},
        {"label": {"names": ["wet", "wet"]}},
        {"label": None},
        {},
        [],
    ],
)
def test_without_names_labels_are_digits(path: Path, features: object) -> None:
    write(path, {"text": ["a", "b"], "label": [1, 0]}, features)
    assert labels(path) == ["1", "0"]


@pytest.mark.parametrize("stored", [b"{", b"\xff", b"[" * 100_000, b"null"])
def test_broken_names_are_no_names(path: Path, stored: bytes) -> None:
    table = pa.table({"text": ["a"], "label": [1]})
    pq.write_table(table.replace_schema_metadata({b"huggingface": stored}), path)
    assert labels(path) == ["1"]


def test_judged_pairs_keep_their_numbers(path: Path) -> None:
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, 0]}
    write(path, columns, {"label": {"names": ["different", "same"], "_type": "ClassLabel"}})
    assert list(read_pairs(path).values) == [1, 0]
