"""What the writers of exports write, the readers read."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdex.choices import ExportFormat, StoredPrecision
from layerdex.errors import OptionError, SourceError
from layerdex.indexer.readers import Fields, read_source
from layerdex.indexer.writers.documents import resolve_export_format, write_export
from layerdex.records import Document, Scalar
from layerdex.storage.catalog.metadata import ValueType, encode_value
from layerdex.storage.maintenance.export import Batch
from tests.indexer.readers.sources import documents, reasons
from tests.indexer.readers.test_round_trip import METADATA, TEXTS

DOCUMENTS = st.lists(
    st.builds(
        Document,
        row=st.just(1),
        id=TEXTS,
        text=TEXTS,
        label=st.one_of(st.none(), TEXTS),
        metadata=METADATA.map(lambda one: {k: v for k, v in one.items() if v is not None}),
    ),
    min_size=1,
    max_size=8,
)


def _batch(found: list[Document], width: int) -> Batch:
    kinds: dict[str, set[ValueType]] = {}
    for one in found:
        for name, value in one.metadata.items():
            kinds.setdefault(name, set()).add(encode_value(value)[0])
    vectors = {layer: np.full((len(found), width), layer, np.float32) for layer in (0, 12)}
    return Batch(found, vectors, len(found), kinds)


def _parts(id_: str | None, text: str, label: object, metadata: Any) -> tuple[object, ...]:
    # repr tells 1 from 1.0 and from True, 0.0 from -0.0
    there: dict[str, Scalar] = {k: v for k, v in metadata.items() if v is not None}
    return id_, text, label, repr(sorted(there.items()))


@given(DOCUMENTS, st.sampled_from([ExportFormat.JSONL, ExportFormat.PARQUET]))
def test_documents_come_back_as_they_were(found: list[Document], format_: ExportFormat) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, f"a.{format_}")
        with path.open("wb") as file:
            n_written = write_export(
                file,
                iter([_batch(found, 2)]),
                format=format_,
                layers=(0, 12),
                width=2,
                precision=StoredPrecision.FLOAT16,
                on_progress=None,
            )
        readings = documents(list(read_source(path)))
    assert n_written == len(found)
    assert [_parts(one.id, one.text, one.label, one.metadata) for one in readings] == [
        _parts(one.id, one.text, one.label, one.metadata) for one in found
    ]


def _read(folder: Path, name: str, content: bytes, fields: Fields | None = None) -> list[Any]:
    path = folder / name
    path.write_bytes(content)
    return list(read_source(path, fields=fields))


def _table(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def test_vectors_are_no_metadata_in_any_format(tmp_path: Path) -> None:
    row = {"text": "t", "vector_0": [0.5, 1], "vector_12": [1.0], "n": 1}
    for name, content in [
        ("a.jsonl", json.dumps(row).encode()),
        ("a.json", json.dumps([row]).encode()),
        ("a.parquet", _table(**{key: [value] for key, value in row.items()})),
    ]:
        (document,) = documents(_read(tmp_path, name, content))
        assert document.metadata == {"n": 1}


def _reason(folder: Path, name: str, content: bytes, fields: Fields | None = None) -> str:
    """Return why the only row is refused: in parquet with its whole column."""
    try:
        return str(reasons(_read(folder, name, content, fields)))
    except SourceError as error:
        assert name.endswith(".parquet")
        return str(error)


def test_what_only_looks_like_vectors_is_judged_as_before(tmp_path: Path) -> None:
    rows: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
        ({"vector_1": "x"}, {"vector_1": "x"}),
        ({"vector_1": 2}, {"vector_1": 2}),
        ({"vector_x": [1.0]}, None),
        ({"vectors_1": [1.0]}, None),
        ({"vector_1": {"a": 1}}, None),
    ]
    for row, metadata in rows:
        columns = {"text": ["t"], **{key: [value] for key, value in row.items()}}
        for name, content in [
            ("a.jsonl", json.dumps({"text": "t", **row}).encode()),
            ("a.parquet", _table(**columns)),
        ]:
            if metadata is None:
                assert "is nested" in _reason(tmp_path, name, content)
            else:
                assert documents(_read(tmp_path, name, content))[0].metadata == metadata


def test_vectors_that_are_asked_for_as_metadata_are_nested(tmp_path: Path) -> None:
    fields = Fields(metadata=("vector_1",))
    for name, content in [
        ("a.jsonl", b'{"text": "t", "vector_1": [1.0]}'),
        ("a.parquet", _table(text=["t"], vector_1=[[1.0]])),
    ]:
        assert "is nested" in _reason(tmp_path, name, content, fields)


@pytest.mark.parametrize("cell", ["{", "[1]", '{"a": 1, "a": 2}', '{"a": NaN}', "[" * 9_999])
def test_a_broken_json_cell_spoils_its_row_alone(tmp_path: Path, cell: str) -> None:
    mark = {b"layerdex": b"metadata as JSON"}
    schema = pa.schema([("text", pa.string()), pa.field("rest", pa.string(), metadata=mark)])
    table = pa.table({"text": ["a", "b", "c"], "rest": [cell, '{"n": 1}', None]}, schema=schema)
    pq.write_table(table, tmp_path / "a.parquet")
    first, second, third = read_source(tmp_path / "a.parquet")
    assert "cannot be read: it is not a JSON object" in str(reasons([first])[0])
    assert [one.metadata for one in documents([second, third])] == [{"n": 1}, {}]


def test_the_format_goes_by_the_name_unless_it_is_said() -> None:
    auto, jsonl, parquet = ExportFormat.AUTO, ExportFormat.JSONL, ExportFormat.PARQUET
    assert resolve_export_format(None, auto) is jsonl
    assert resolve_export_format(Path("a.PQ"), auto) is parquet
    assert resolve_export_format(Path("a.parquet"), auto) is parquet
    assert resolve_export_format(Path("a.parquet"), jsonl) is jsonl
    assert resolve_export_format(Path("a.b/export"), auto) is jsonl
    assert resolve_export_format(Path("a.NDJSON"), auto) is jsonl
    assert resolve_export_format(Path("a.txt"), jsonl) is jsonl


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.json", "a.jsonl.gz", "a.parquet.tmp"])
def test_a_name_of_a_format_that_is_not_written_is_refused(name: str) -> None:
    message = rf"{re.escape(name)}'.* ends in \.jsonl, \.ndjson, \.parquet, \.pq"
    with pytest.raises(OptionError, match=message):
        resolve_export_format(Path("folder", name), ExportFormat.AUTO)
