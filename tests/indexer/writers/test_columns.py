"""Metadata as columns: what csv and flat parquet hold, and that readers take it back."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdex.choices import ExportFormat, MetadataLayout, StoredPrecision
from layerdex.errors import OptionError
from layerdex.indexer.readers import read_source
from layerdex.indexer.writers.delimited import write_csv
from layerdex.indexer.writers.documents import resolve_layout, write_export
from layerdex.records import Document, Scalar
from layerdex.storage.catalog.metadata import ValueType, encode_value
from layerdex.storage.maintenance.export import Batch
from tests.indexer.readers.sources import documents
from tests.indexer.readers.test_round_trip import TEXTS

# What a cell cannot tell apart from nothing, and Label Studio's own way to write labels, aside.
CELLS = TEXTS.filter(lambda text: not text.startswith(('{"choices"', "[{")))
SCALARS = st.one_of(
    CELLS, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)
).filter(lambda value: value not in (float("inf"), -float("inf")))
NAMES = st.sampled_from(["stars", "Kunde, Nr", 'the "other"', "a\nb", "größe"])
DOCUMENTS = st.lists(
    st.builds(
        Document,
        row=st.just(1),
        id=st.one_of(CELLS, st.from_regex(r"0[0-9]{1,6}", fullmatch=True)),
        text=CELLS,
        label=st.one_of(st.none(), CELLS, st.from_regex(r"[0-9]\.0", fullmatch=True)),
        metadata=st.dictionaries(NAMES, SCALARS),
    ),
    min_size=1,
    max_size=6,
)


def batch(found: list[Document]) -> Batch:
    kinds: dict[str, set[ValueType]] = {}
    for one in found:
        for name, value in one.metadata.items():
            kinds.setdefault(name, set()).add(encode_value(value)[0])
    return Batch(found, {}, len(found), kinds)


def write(
    found: list[Document], format_: ExportFormat, metadata: MetadataLayout | None = None
) -> bytes:
    file = io.BytesIO()
    write_export(
        file,
        iter([batch(found)]),
        format=format_,
        layers=(),
        width=2,
        precision=StoredPrecision.FLOAT16,
        on_progress=None,
        metadata=metadata,
    )
    return file.getvalue()


def read(content: bytes, suffix: str) -> list[tuple[object, ...]]:
    with TemporaryDirectory() as folder:
        path = Path(folder, f"a.{suffix}")
        path.write_bytes(content)
        readings = documents(list(read_source(path)))
    return [
        (one.id, one.text, one.label, {k: v for k, v in one.metadata.items() if v is not None})
        for one in readings
    ]


def text_of(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


@given(DOCUMENTS)
def test_csv_comes_back_with_metadata_as_text(found: list[Document]) -> None:
    assert read(write(found, ExportFormat.CSV), "csv") == [
        (one.id, one.text, one.label, {k: text_of(v) for k, v in one.metadata.items()})
        for one in found
    ]


@given(DOCUMENTS, st.sampled_from([ExportFormat.PARQUET, ExportFormat.JSONL]))
def test_flat_columns_come_back_as_metadata(found: list[Document], format_: ExportFormat) -> None:
    kinds = batch(found).metadata_types
    is_text = {
        name: format_ is ExportFormat.PARQUET and len(types) > 1 for name, types in kinds.items()
    }
    assert read(write(found, format_, MetadataLayout.COLUMNS), format_) == [
        (
            one.id,
            one.text,
            one.label,
            {k: text_of(v) if is_text[k] else v for k, v in one.metadata.items()},
        )
        for one in found
    ]


ROWS = [
    Document(1, "007", "two\nlines", None, {"stars": 4, "shop": "A, B"}),
    Document(2, "b", 'a "quoted" text', "1.0", {"empty": ""}),
]


def test_csv_is_what_a_spreadsheet_reads() -> None:
    content = write(ROWS, ExportFormat.CSV)
    assert content.startswith(b"id,text,label,empty,shop,stars\r\n")
    assert list(csv.reader(io.StringIO(content.decode(), newline=""))) == [
        ["id", "text", "label", "empty", "shop", "stars"],
        ["007", "two\nlines", "", "", "A, B", "4"],
        ["b", 'a "quoted" text', "1.0", "", "", ""],
    ]


def test_flat_parquet_has_typed_columns() -> None:
    table = pq.read_table(io.BytesIO(write(ROWS, ExportFormat.PARQUET, MetadataLayout.COLUMNS)))
    assert table.column_names == ["id", "text", "label", "empty", "shop", "stars"]
    assert table.column("stars").to_pylist() == [4, None]
    assert table.column("empty").to_pylist() == [None, ""]


@pytest.mark.parametrize("name", ["id", "text", "label", "metadata", " a", ""])
def test_a_field_that_cannot_be_a_column_is_an_error(name: str) -> None:
    rows = [Document(1, "a", "t", None, {name: "x"})]
    for format_ in (ExportFormat.CSV, ExportFormat.PARQUET, ExportFormat.JSONL):
        with pytest.raises(OptionError, match=r"cannot be a column of its own: export to .jsonl"):
            write(rows, format_, MetadataLayout.COLUMNS)
    assert b"x" in write(rows, ExportFormat.JSONL)


def test_csv_has_no_objects_and_npy_no_documents() -> None:
    assert resolve_layout(ExportFormat.CSV, None) is MetadataLayout.COLUMNS
    assert resolve_layout(ExportFormat.PARQUET, None) is MetadataLayout.OBJECT
    with pytest.raises(OptionError, match="csv has no objects"):
        resolve_layout(ExportFormat.CSV, MetadataLayout.OBJECT)
    with pytest.raises(OptionError, match="vectors, not documents"):
        write(ROWS, ExportFormat.NPY)


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_no_characters_that_it_obeys() -> None:
    terminal = Terminal()
    rows = [Document(1, "a", "red \x1b[2J", None, {})]
    write_csv(terminal, iter([batch(rows)]))
    assert terminal.getvalue() == b'id,text,label\r\na,"red \\u001b[2J",\r\n'
