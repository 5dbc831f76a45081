from __future__ import annotations

import json
import string
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from layerdex.indexer.readers import read_source
from layerdex.records import UNSET, SourceDocument
from tests.indexer.readers.sources import documents

CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
TEXTS = st.text(CHARACTERS, min_size=1).filter(lambda text: not text.isspace())
NAMES = st.one_of(st.none(), TEXTS)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(CHARACTERS),
)
METADATA = st.dictionaries(st.text(CHARACTERS, min_size=1), SCALARS)
DOCUMENTS = st.builds(
    SourceDocument, text=TEXTS, id=NAMES, label=st.one_of(NAMES, st.just(UNSET)), metadata=METADATA
)


def as_row(document: SourceDocument) -> dict[str, object]:
    row: dict[str, object] = {"text": document.text, "metadata": dict(document.metadata)}
    if document.id is not None:
        row["id"] = document.id
    if document.label is not UNSET:
        row["label"] = document.label
    return row


def parts(document: SourceDocument) -> tuple[object, ...]:
    # repr tells 1 from 1.0 and from True, 0.0 from -0.0
    return document.text, document.id, document.label, repr(dict(document.metadata))


@given(st.lists(DOCUMENTS), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_documents_survive_jsonl_and_json(
    originals: list[SourceDocument], is_ascii: bool, line_end: str
) -> None:
    rows = [as_row(document) for document in originals]
    lines = [json.dumps(row, ensure_ascii=is_ascii) for row in rows]
    with TemporaryDirectory() as folder:
        jsonl, array = Path(folder, "a.jsonl"), Path(folder, "a.json")
        jsonl.write_bytes(line_end.join(lines).encode())
        array.write_bytes(f"[{','.join(lines)}]".encode())
        for path in (jsonl, array):
            readings = documents(list(read_source(path)))
            assert list(map(parts, readings)) == list(map(parts, originals))


@given(st.lists(st.text(CHARACTERS.filter(lambda character: character != "\n"))))
def test_lines_of_txt_are_kept_or_rejected_one_by_one(lines: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.txt")
        # a leading letter keeps the first line from beginning with a byte order mark
        path.write_bytes("".join(f"{string.ascii_letters}{line}\r\n" for line in lines).encode())
        readings = documents(list(read_source(path)))
    assert [one.text for one in readings] == [string.ascii_letters + line for line in lines]
