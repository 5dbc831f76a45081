"""The same row gets the same verdict in every format that can express it."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields
from layerdex.records import UNSET, SourceDocument
from tests.indexer.readers.sources import (
    JSONLIKE,
    READ_AS,
    TYPED,
    Row,
    documents,
    read_as,
    reasons,
    verdicts,
)

ID_ADVICE = "; leave it out or use null for an id made from the text"
LABEL_ADVICE = "; use null for none"
NESTED_ADVICE = "; name the fields to keep with --metadata-field"
PLAIN = "neither text, a number, true/false nor a date"

BAD_ROWS: list[tuple[Row, str, tuple[str, ...]]] = [
    ({"text": "", "n": "x"}, "text is empty", READ_AS),
    ({"text": " \u2003\n", "n": "x"}, "text is blank", READ_AS),
    ({"text": "a\0b"}, "text contains a NUL character", READ_AS),
    ({"text": None}, "text is null", TYPED),
    ({"text": 7}, "text is not a string (int)", TYPED),
    ({"text": True}, "text is not a string (true/false)", TYPED),
    ({"text": ["a"]}, "text is not a string (list)", TYPED),
    ({"text": "\ud800x"}, "text contains a lone surrogate (U+D800)", JSONLIKE),
    ({"text": "a", "id": " "}, f"id is blank{ID_ADVICE}", READ_AS),
    ({"text": "a", "id": ""}, f"id is empty{ID_ADVICE}", TYPED),
    ({"text": "a", "id": "x\0"}, "id contains a NUL character", READ_AS),
    ({"text": "a", "id": "\udfff"}, "id contains a lone surrogate (U+DFFF)", JSONLIKE),
    ({"text": "a", "id": [1]}, "id is nested (list)", TYPED),
    ({"text": "a", "label": ""}, f"label is empty{LABEL_ADVICE}", TYPED),
    ({"text": "a", "label": "\t"}, f"label is blank{LABEL_ADVICE}", READ_AS),
    ({"text": "a", "label": "x\0"}, "label contains a NUL character", READ_AS),
    ({"text": "a", "m": "x\0"}, "metadata field 'm' contains a NUL character", READ_AS),
    (
        {"text": "a", "m": "\udc00"},
        "metadata field 'm' contains a lone surrogate (U+DC00)",
        JSONLIKE,
    ),
    (
        {"text": "a", "m\0": "x"},
        "the name of metadata field 'm\\x00' contains a NUL character",
        ("jsonl", "json", "mappings", "frame"),
    ),
    (
        {"text": "a", "": "x"},
        f"a metadata field has an empty name{NESTED_ADVICE}",
        TYPED,
    ),
    ({"text": "a", "m": [1]}, f"metadata field 'm' is nested (list){NESTED_ADVICE}", TYPED),
    ({"text": "a", "m": {"k": 1}}, f"metadata field 'm' is nested (object){NESTED_ADVICE}", TYPED),
    (
        {"text": "a", "metadata": {"k": {"z": 1}}},
        f"metadata field 'k' is nested (object){NESTED_ADVICE}",
        TYPED,
    ),
    (
        {"text": "a", "m": 1, "metadata": {"m": 1}},
        "metadata field 'm' is there twice, once in 'metadata'",
        TYPED,
    ),
    (
        {"text": "a", "m": float("inf")},
        "metadata field 'm' is not a finite number (inf)",
        ("parquet", "mappings", "frame"),
    ),
    (
        {"text": "a", "m": b"x"},
        f"metadata field 'm' is {PLAIN} (bytes){NESTED_ADVICE}",
        ("parquet", "mappings", "frame"),
    ),
]

GOOD_ROWS: list[tuple[Row, SourceDocument, tuple[str, ...]]] = [
    # in tsv of one column the quotes would be text
    ({"text": " a\u2028b\n"}, SourceDocument(" a\u2028b\n"), (*TYPED, "csv")),
    ({"text": "a", "id": 7}, SourceDocument("a", id="7"), READ_AS),
    ({"text": "a", "id": 2**64}, SourceDocument("a", id=str(2**64)), (*JSONLIKE, "csv", "tsv")),
    ({"text": "a", "id": None}, SourceDocument("a"), READ_AS),
    ({"text": "a", "label": 0}, SourceDocument("a", label="0"), READ_AS),
    ({"text": "a", "label": None}, SourceDocument("a", label=None), READ_AS),
    ({"text": "a"}, SourceDocument("a", label=UNSET), READ_AS),
    ({"text": "a", "m": "ü"}, SourceDocument("a", metadata={"m": "ü"}), READ_AS),
    ({"text": "a", "m": ""}, SourceDocument("a", metadata={"m": ""}), TYPED),
    ({"text": "a", "m": None}, SourceDocument("a", metadata={"m": None}), TYPED),
    ({"text": "a", "m": True}, SourceDocument("a", metadata={"m": True}), TYPED),
    ({"text": "a", "m": 1.5}, SourceDocument("a", metadata={"m": 1.5}), TYPED),
    (
        {"text": "a", "m": -(2**63), "metadata": {"k": 2**63 - 1}},
        SourceDocument("a", metadata={"m": -(2**63), "k": 2**63 - 1}),
        TYPED,
    ),
    ({"text": "a", "m": 1}, SourceDocument("a", metadata={"m": "1"}), ("csv", "tsv")),
    # what export writes for an index made with --text-field body, where "text" was metadata
    (
        {"text": "a", "metadata": {"text": "x", "metadata": "y"}},
        SourceDocument("a", metadata={"text": "x", "metadata": "y"}),
        TYPED,
    ),
    ({"text": "a", "metadata": "x"}, SourceDocument("a", metadata={"metadata": "x"}), READ_AS),
]


@pytest.mark.parametrize(
    ("row", "reason", "kind"),
    [(row, reason, kind) for row, reason, kinds in BAD_ROWS for kind in kinds],
)
def test_bad_row_is_rejected_for_the_same_reason(
    row: Row, reason: str, kind: str, tmp_path: Path
) -> None:
    assert verdicts(kind, [row], tmp_path, Fields()) == [reason]


@pytest.mark.parametrize(
    ("row", "expected", "kind"),
    [(row, document, kind) for row, document, kinds in GOOD_ROWS for kind in kinds],
)
def test_good_row_becomes_the_same_document(
    row: Row, expected: SourceDocument, kind: str, tmp_path: Path
) -> None:
    (document,) = documents(read_as(kind, [row], tmp_path, Fields()))
    assert (document.text, document.id, document.label) == (
        expected.text,
        expected.id,
        expected.label,
    )
    assert document.metadata == expected.metadata
    assert [type(value) for value in document.metadata.values()] == [
        type(value) for value in expected.metadata.values()
    ]


@pytest.mark.parametrize("kind", READ_AS)
def test_named_fields_are_used_and_the_rest_is_metadata(kind: str, tmp_path: Path) -> None:
    row = {"body": "a", "sku": "k", "topic": "t", "id": "other", "label": "too"}
    fields = Fields(text="body", id="sku", label="topic")
    (document,) = documents(read_as(kind, [row], tmp_path, fields))
    assert (document.text, document.id, document.label) == ("a", "k", "t")
    assert document.metadata == {"id": "other", "label": "too"}


@pytest.mark.parametrize("kind", TYPED)
def test_named_metadata_is_kept_and_nested_others_are_ignored(kind: str, tmp_path: Path) -> None:
    row = {"text": "a", "m": 1, "n": 2, "bad": [[1]], "metadata": {"k": 3, "o": 4, "deep": [1]}}
    fields = Fields(metadata=("m", "k"))
    (document,) = documents(read_as(kind, [row], tmp_path, fields))
    assert document.metadata == {"m": 1, "k": 3}


@pytest.mark.parametrize("kind", TYPED)
def test_named_metadata_that_is_nested_is_rejected(kind: str, tmp_path: Path) -> None:
    found = verdicts(kind, [{"text": "a", "m": [1]}], tmp_path, Fields(metadata=("m",)))
    assert found == ["metadata field 'm' is nested (list)"]


@pytest.mark.parametrize("kind", TYPED)
def test_field_of_a_bad_kind_in_every_row_is_one_error_of_the_source(
    kind: str, tmp_path: Path
) -> None:
    rows: list[Row] = [{"text": "a", "m": [1]}, {"text": "b", "m": [2]}]
    with pytest.raises(SourceError) as caught:
        read_as(kind, rows, tmp_path, Fields())
    assert str(caught.value).endswith(f": metadata field 'm' is nested (list){NESTED_ADVICE}")


@pytest.mark.parametrize("kind", JSONLIKE)
@pytest.mark.parametrize(("n_bad", "is_read"), [(1, True), (999, True), (1000, False)])
def test_rows_are_rejected_one_by_one_where_a_good_row_follows(
    kind: str, n_bad: int, is_read: bool, tmp_path: Path
) -> None:
    bad: Row = {"text": "a", "m": [1]}
    rows: list[Row] = [*[bad] * n_bad, {"text": "b"}]
    if is_read:
        found = reasons(read_as(kind, rows, tmp_path, Fields()))
        assert found == [f"metadata field 'm' is nested (list){NESTED_ADVICE}"] * n_bad + [None]
        return
    with pytest.raises(SourceError, match="metadata field 'm' is nested"):
        read_as(kind, rows, tmp_path, Fields())
