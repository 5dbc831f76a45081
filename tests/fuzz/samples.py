"""Valid samples of every format, small, so that most changes meet something that matters."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from zipfile import ZIP_DEFLATED, ZIP_STORED

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from layerdex.choices import StoredPrecision
from layerdex.storage.vectors.codecs import codec_of
from layerdex.storage.vectors.layer_file import serialize_layer
from tests.indexer.readers.workbook import write_xlsx

N, WIDTH = 5, 8

_ROWS = [
    {"id": "a", "text": "one text", "label": "x", "year": 2020, "metadata": {"k": 1.5}},
    {"id": 7, "text": 'zwei\nZeilen, "quoted" 🙂', "label": None, "flag": True},
    {"text": "\u2028 three", "metadata": {"k": "v", "n": None}},
]
_TABLE = 'id,text,label,year\na,"one, text",x,2020\n7,"two\nlines ""q""",,\n,ü🙂,y,-1\n'
_FLAT = [{"id": str(i), "text": f"text {i}", "label": None, "year": i} for i in range(40)]
_EXPORTED = [
    {
        "id": 5,
        "data": {"text": "late"},
        "annotations": [{"result": [{"from_name": "mood", "value": {"choices": ["bad"]}}]}],
    },
    {"id": 1, "text": "late", "label": ["bad"], "Comments": []},
    {"text": "late", "_task_hash": 1, "accept": ["bad"], "answer": "accept", "meta": {"k": 1}},
]


def layers(precision: StoredPrecision) -> list[bytes]:
    """Return layer files of N vectors, WIDTH wide, and FAISS indexes of other types."""
    vectors = np.random.default_rng(0).standard_normal((N, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codec = codec_of(precision)
    own = bytes(serialize_layer(codec.encode(vectors), codec))
    others = []
    for kind in ("HNSW4", "IVF1,Flat", "PCA4,Flat", "PQ2x2", "SQ8"):
        index = faiss.index_factory(WIDTH, kind, faiss.METRIC_INNER_PRODUCT)
        index.train(np.repeat(vectors, 20, axis=0))
        index.add(vectors)
        others.append(bytes(faiss.serialize_index(index)))
    return [own, own, own, *others]


def documents() -> dict[str, list[bytes]]:
    """Return sources of each format by its suffix."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _ROWS).encode()
    array = json.dumps(_ROWS, indent=1).encode()
    columns = {name: {str(i): row[name] for i, row in enumerate(_FLAT[:9])} for name in _FLAT[0]}
    split = {"columns": [*_FLAT[0]], "data": [[*row.values()] for row in _FLAT[:9]]}
    shapes = [{"version": 1, "data": _ROWS}, columns, split, *_EXPORTED]
    return {
        "jsonl": [lines, json.dumps(_ROWS[0]).encode()],
        "json": [array, b"[]", *(json.dumps(one).encode() for one in (_FLAT[:9], *shapes))],
        "csv": [
            _TABLE.encode(),
            _TABLE.replace("\n", "\r\n").encode(),
            b"sep=;\r\n" + _TABLE.replace(",", ";").encode("utf-8-sig"),
        ],
        "tsv": [
            _TABLE.replace(",", "\t").encode(),
            _TABLE.replace(",", "\t").replace('"', "").encode("utf-16"),
            b'\ttext\tlabel\n0\t"one\tx\n1\ttwo"\ty\n',
        ],
        "xlsx": _xlsx(),
        "txt": ["first\nsecond ü🙂\r\n\nlast".encode()],
        "parquet": _parquet(),
    }


def _xlsx() -> list[bytes]:
    written = []
    rows = [[str(value) for value in row.values()] for row in _FLAT]
    for compression in (ZIP_STORED, ZIP_DEFLATED):
        file = io.BytesIO()
        write_xlsx(file, {"Table": [list(_FLAT[0]), *rows]}, compression=compression)
        written.append(file.getvalue())
    return written


def _parquet() -> list[bytes]:
    typed = {
        "text": ["a", "b", None],
        "when": [dt.datetime(2020, 1, 2, tzinfo=dt.UTC), None, None],
        "price": [Decimal("1.50"), Decimal("2.25"), None],
        "label": [["x"], [], None],
        "metadata": [{"k": 1}, {"k": None}, None],
    }
    tables = [(pa.Table.from_pylist(_FLAT), {"compression": "snappy"})]
    tables += [(pa.Table.from_pydict(typed), {"compression": one}) for one in ("none", "zstd")]
    written = []
    for table, options in tables:
        file = io.BytesIO()
        pq.write_table(table, file, **options)
        written.append(file.getvalue())
    return written
