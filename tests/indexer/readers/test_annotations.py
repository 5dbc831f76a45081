"""Exports of Label Studio, doccano and Prodigy, in the forms that their manuals show."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, Reading, read_mappings, read_source
from layerdex.records import UNSET
from tests.indexer.readers.sources import documents, reasons
from tests.indexer.readers.workbook import write_xlsx


def read(rows: Sequence[dict[str, Any]], fields: Fields | None = None) -> list[Reading]:
    return list(read_mappings(rows, fields=fields))


def choice(question: str, *choices: str) -> dict[str, Any]:
    return {
        "id": "k1",
        "type": "choices",
        "from_name": question,
        "to_name": "text",
        "value": {"choices": [*choices]},
    }


def task(text: str, *annotations: Sequence[dict[str, Any]], **data: Any) -> dict[str, Any]:
    return {
        "id": 5,
        "data": {"text": text, **data},
        "annotations": [
            {"id": i, "completed_by": 1, "was_cancelled": False, "result": [*results]}
            for i, results in enumerate(annotations)
        ],
        "predictions": [],
        "drafts": [],
        "meta": {},
        "created_at": "2024-03-01T10:00:00Z",
    }


def test_a_task_of_label_studio_is_a_labelled_document(caplog: pytest.LogCaptureFixture) -> None:
    rows = [task("Late", [choice("mood", "Negative")], url="u"), task("Fine"), task("Odd", [])]
    first, second, third = documents(read(rows))
    assert (first.text, first.id, first.label) == ("Late", "5", "Negative")
    assert first.metadata == {"url": "u", "created_at": "2024-03-01T10:00:00Z"}
    assert (second.label, third.label) == (None, None)
    [message] = caplog.messages
    assert message.startswith("<memory>: read as an export of Label Studio: the text is in 'data'")


@pytest.mark.parametrize("text", ["text", "data.text"])
def test_a_task_is_read_by_bare_names_and_by_paths(text: str) -> None:
    fields = Fields(text=text, id="data.sku", label="mood", metadata=("data.url",))
    row = task("Late", [choice("mood", "Negative"), choice("topic", "Staff")], sku="s", url="u")
    (document,) = documents(read([row], fields))
    assert (document.text, document.id, document.label) == ("Late", "s", "Negative")
    assert document.metadata == {"url": "u"}


def test_answers_to_other_questions_are_metadata() -> None:
    row = task("Late", [choice("mood", "Negative"), choice("topic", "Staff")])
    (document,) = documents(read([row], Fields(label="mood")))
    assert (document.label, document.metadata["topic"]) == ("Negative", "Staff")
    assert "mood" not in document.metadata


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        (
            [[choice("mood", "Bad"), choice("topic", "Staff")]],
            "label cannot be read: there are answers to 'mood' and 'topic': name one with "
            "--label-field",
        ),
        (
            [[choice("mood", "Bad", "Odd")]],
            "label cannot be read: 'mood' has 2 answers ('Bad', 'Odd'): --label-field mood.0 "
            "reads the first",
        ),
        (
            [[choice("mood", "Bad")], [choice("mood", "Good")]],
            "label cannot be read: 'mood' has 2 answers ('Bad', 'Good'): --label-field mood.0 "
            "reads the first",
        ),
        ([[choice("mood", "Bad")], [choice("mood", "Bad")]], None),
    ],
)
def test_a_task_has_one_label_or_a_reason(annotations: Any, reason: str | None) -> None:
    row = task("Late", *annotations)
    assert reasons(read([row])) == [reason]
    (document,) = documents(read([row], Fields(label="mood.0")))
    assert document.label == "Bad"


def test_cancelled_annotations_and_spans_are_no_labels() -> None:
    row = task("Late", [choice("mood", "Bad")])
    row["annotations"][0]["was_cancelled"] = True
    span = {"from_name": "ner", "type": "labels", "value": {"start": 0, "labels": ["PER"]}}
    assert [one.label for one in documents(read([row, task("Late", [span])]))] == [None, None]


SHORT = {
    "annotation_id": 1,
    "annotator": 1,
    "created_at": "2024-03-01T10:00:00Z",
    "id": 5,
    "lead_time": 3.2,
    "text": "Late",
}


def test_the_short_form_has_one_choice_or_several() -> None:
    rows = [
        {**SHORT, "mood": "Bad"},
        {**SHORT, "mood": {"choices": ["Bad"]}},
        {**SHORT, "mood": {"choices": ["Bad", "Odd"]}},
    ]
    readings = read(rows, Fields(label="mood"))
    assert [one.label for one in documents(readings[:2])] == ["Bad", "Bad"]
    assert reasons(readings[2:]) == [
        "label is a list of 2 ('Bad', 'Odd'), but a document has one label: --label-field "
        "mood.choices.0 reads the first"
    ]
    (document,) = documents(read(rows[2:], Fields(label="mood.choices.0")))
    assert document.label == "Bad"


def test_the_short_form_says_how_to_name_the_label(caplog: pytest.LogCaptureFixture) -> None:
    documents(read([{**SHORT, "mood": "Bad"}]))
    assert "name the field of the label with --label-field" in caplog.text


@pytest.mark.parametrize(
    ("cell", "label", "reason"),
    [
        ("Bad", "Bad", None),
        ("", None, None),
        ('{"choices":["Bad"]}', "Bad", None),
        (
            '{"choices":["Bad","Odd"]}',
            None,
            "label is a list of 2 ('Bad', 'Odd'), but a document has one label: --label-field "
            "mood.choices.0 reads the first",
        ),
        ('[{"start":0,"end":4,"labels":["PER"]}]', None, "label holds spans, such as {'start': 0"),
        ("{curly}", "{curly}", None),
        ("[{bracket", "[{bracket", None),
    ],
)
def test_labels_in_the_cells_of_a_csv(
    cell: str, label: str | None, reason: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "mood"], ["Late", cell], ["Fine", "Good"]])
    first, second = read_source(path, fields=Fields(label="mood"))
    if reason is None:
        assert documents([first])[0].label == label
    else:
        [found] = reasons([first])
        assert found is not None
        assert found.startswith(reason)
    assert documents([second])[0].label == "Good"


SHORT_CELLS = {"a": "Bad", "b": '{"choices": ["Odd", "Bad"]}', "c": "", "d": '{"choices": []}'}


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_the_first_of_several_labels_is_read_from_cells(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    rows = [["text", "mood"], *map(list, SHORT_CELLS.items())]
    if suffix == "xlsx":
        write_xlsx(path, {"Sheet1": rows})
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    found = documents(list(read_source(path, fields=Fields(label="mood.choices.0"))))
    assert [one.label for one in found] == ["Bad", "Odd", None, None]
    assert [one.metadata for one in found] == [{}] * 4


def test_a_step_that_no_cell_has_is_a_missing_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,mood\nLate,Bad\n")
    with pytest.raises(SourceError, match=r"no label field 'mood\.tone'; there is 'text', 'mood'"):
        list(read_source(path, fields=Fields(label="mood.tone")))


@pytest.mark.parametrize("path", ["mood.0", "mood.choices.0"])
def test_a_single_label_is_the_first(path: str) -> None:
    rows: list[dict[str, Any]] = [{"text": "a", "mood": mood} for mood in ("Bad", 3, None)]
    found = documents(read(rows, Fields(label=path)))
    assert [one.label for one in found] == ["Bad", "3", None]
    assert [one.metadata for one in found] == [{}] * 3


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_the_short_form_is_recognised_by_its_columns(
    delimiter: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ("a.csv" if delimiter == "," else "a.tsv")
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(
            [[*SHORT, "mood"], [*SHORT.values(), "Bad"]]
        )
    for fields in (Fields(), Fields(label="mood")):
        documents(list(read_source(path, fields=fields)))
    decision = f"{path}: read as a short export of Label Studio"
    advice = "; name the field of the label with --label-field"
    assert caplog.messages == [decision + advice, decision]


DOCCANO = {"id": 11, "text": "Late", "label": ["staff"], "Comments": [], "site": "a"}


def test_doccano_has_a_list_of_labels(caplog: pytest.LogCaptureFixture) -> None:
    rows = [DOCCANO, {**DOCCANO, "label": []}, {**DOCCANO, "label": ["staff", "speed"]}]
    readings = read(rows)
    first, second = documents(readings[:2])
    assert (first.id, first.label, first.metadata) == ("11", "staff", {"site": "a"})
    assert second.label is None
    assert reasons(readings[2:]) == [
        "label is a list of 2 ('staff', 'speed'), but a document has one label: --label-field "
        "label.0 reads the first"
    ]
    assert "read as an export of doccano: the label is in 'label'" in caplog.text
    found = documents(read(rows, Fields(label="label.0", metadata=())))
    assert [one.label for one in found] == ["staff", None, "staff"]


def test_spans_are_refused_once_for_the_file() -> None:
    rows = [{**DOCCANO, "label": [[0, 4, "PER"]]}] * 3
    with pytest.raises(SourceError) as caught:
        read(rows)
    assert str(caught.value) == (
        "<memory>:1: label holds spans, such as [0, 4, 'PER'], but a document has one label: "
        "remove them to read the texts alone"
    )


def test_entities_of_doccano_are_left_out() -> None:
    entity = {"id": 1, "label": "PER", "start_offset": 0, "end_offset": 4}
    rows = [{"id": 1, "text": "Late", "entities": [entity], "relations": [], "Comments": []}]
    (document,) = documents(read(rows))
    assert (document.label, document.metadata) == (UNSET, {})


def test_a_list_under_labels_is_read_where_there_is_no_label(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [{"text": "Late", "labels": ["staff"]}, {"text": "Fine", "labels": []}]
    assert [one.label for one in documents(read(rows))] == ["staff", None]
    assert caplog.messages == ["<memory>: the label is read from 'labels'"]


def test_labels_are_not_read_where_the_fields_to_keep_are_named() -> None:
    rows = [{"text": "Late", "labels": ["staff", "speed"], "site": "a"}]
    for row in (rows[0], {**rows[0], "Comments": []}):
        (document,) = documents(read([row], Fields(metadata=("site",))))
        assert (document.label, document.metadata) == (UNSET, {"site": "a"})


PRODIGY = {
    "text": "Late",
    "meta": {"source": "mail"},
    "_input_hash": -1423423,
    "_task_hash": 99,
    "options": [{"id": "neg", "text": "negative"}],
    "accept": ["neg"],
    "answer": "accept",
}


def test_prodigy_has_what_was_accepted(caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        PRODIGY,
        {**PRODIGY, "accept": []},
        {**PRODIGY, "answer": "ignore"},
        {**PRODIGY, "accept": ["neg", "pos"]},
    ]
    readings = read(rows)
    first, second, third = documents(readings[:3])
    assert first.label == "neg"
    assert first.metadata == {
        "_input_hash": -1423423,
        "_task_hash": 99,
        "answer": "accept",
        "meta.source": "mail",
    }
    assert (second.label, third.label) == (None, None)
    assert reasons(readings[3:]) == [
        "label cannot be read: 'accept' has 2 answers ('neg', 'pos'): --label-field accept.0 "
        "reads the first"
    ]
    assert "read as an export of Prodigy: the label is in 'accept'" in caplog.text
    (document,) = documents(read(rows[3:], Fields(label="accept.0", metadata=())))
    assert document.label == "neg"


def test_a_rejected_label_of_prodigy_is_none() -> None:
    row = {"text": "Late", "_task_hash": 1, "label": "SPORT"}
    rows = [{**row, "answer": answer} for answer in ("accept", "reject", "ignore")]
    assert [one.label for one in documents(read(rows))] == ["SPORT", None, None]


def test_prodigy_is_read_with_a_named_label_and_without_any() -> None:
    (document,) = documents(read([PRODIGY], Fields(label="answer")))
    assert document.label == "accept"
    span = {"start": 0, "end": 4, "label": "PER"}
    rows = [{"text": "Late", "_task_hash": 1, "spans": [span], "tokens": [{}], "answer": "accept"}]
    (document,) = documents(read(rows))
    assert (document.label, document.metadata) == (UNSET, {"_task_hash": 1, "answer": "accept"})


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("row", [DOCCANO, PRODIGY, task("Late", [choice("mood", "staff")])])
def test_exports_are_read_from_files(row: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    for text in (json.dumps([row]), json.dumps(row), json.dumps(row, indent=2)):
        path.write_text(text)
        (document,) = documents(list(read_source(path)))
        assert document.text == "Late"
        assert document.label in ("staff", "neg")


def test_rows_of_people_are_no_export(caplog: pytest.LogCaptureFixture) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "a", "comments": "none", "entities": 3, "data": "x", "answer": "42"},
        {"text": "b", "label": ["x"]},
    ]
    first, second = documents(read(rows))
    assert first.metadata == {"comments": "none", "entities": 3, "data": "x", "answer": "42"}
    assert second.label == "x"
    assert caplog.messages == []


def test_answers_of_people_leave_their_labels() -> None:
    rows = [{"text": "a", "label": "x", "answer": answer} for answer in ("reject", "accept")]
    found = documents(read(rows))
    assert [(one.label, one.metadata["answer"]) for one in found] == [
        ("x", "reject"),
        ("x", "accept"),
    ]


@pytest.mark.parametrize("answer", ["yes", None, "accept"])
def test_only_a_refusal_takes_the_label_away(answer: object) -> None:
    rows = [{"text": "a", "_task_hash": 1, "label": "x", "answer": answer}]
    assert [one.label for one in documents(read(rows))] == ["x"]


def test_scalars_with_the_names_of_a_tool_are_kept() -> None:
    rows = [
        {**DOCCANO, "meta": "m1", "entities": 3},
        {"text": "a", "_task_hash": 1, "meta": "m1", "options": 2},
        {**task("Late"), "meta": "m1"},
    ]
    for row in rows:
        (document,) = documents(read([row]))
        assert document.metadata["meta"] == "m1"
    (document,) = documents(read(rows[:1]))
    assert document.metadata == {"meta": "m1", "entities": 3, "site": "a"}


def test_each_row_of_prodigy_has_its_own_field_of_the_label() -> None:
    single = {"text": "a", "_task_hash": 1, "label": "SPORT", "answer": "accept"}
    rows = [single, PRODIGY, {**PRODIGY, "accept": ["neg", "pos"]}, {**PRODIGY, "answer": "reject"}]
    readings = read(rows)
    assert [one.label for one in documents([*readings[:2], readings[3]])] == ["SPORT", "neg", None]
    assert [one.label for one in documents(read(rows[1::-1]))] == ["neg", "SPORT"]
    [reason] = reasons(readings[2:3])
    assert reason is not None
    assert "--label-field accept.0 reads the first" in reason


EXPORTS: list[dict[str, Any]] = [
    DOCCANO,
    PRODIGY,
    task("Late", [choice("mood", "staff")]),
    {**SHORT, "mood": "Bad"},
]


@pytest.mark.parametrize("row", EXPORTS)
def test_where_no_label_is_read_none_is_mentioned(
    row: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([row]))
    (document,) = documents(list(read_source(path, fields=Fields(label=UNSET, metadata=()))))
    assert document.label is UNSET
    [message] = caplog.messages
    assert "export of" in message
    assert "label" not in message.removeprefix(str(path))
