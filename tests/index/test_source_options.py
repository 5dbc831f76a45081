"""Names of fields and forms of dates: given in Python, stored, and used by later runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from layerdex import Fields, Index, LabelTask
from layerdex.choices import OnError
from layerdex.errors import DamagedIndexError, IndexMismatchError, OptionError, SourceError
from layerdex.storage.catalog.source_fields import SourceFields
from tests.encoders import WordEncoder

TICKETS = {
    "Ticket-Nr": ["T-1", "T-2"],
    "Betreff": ["a b", "c d"],
    "Kategorie": ["x", "y"],
    "Datum": ["01.06.2026", "02.06.2026"],
    "Rest": [1, 2],
}
NAMES: dict[str, Any] = {
    "text": "Betreff",
    "id": "Ticket-Nr",
    "label": "Kategorie",
    "metadata": ["Datum"],
}
STORED = SourceFields("Betreff", "Ticket-Nr", "Kategorie", ("Datum",))
DOCUMENTS = [
    {"id": "T-1", "text": "a b", "label": "x", "metadata": {"Datum": "01.06.2026"}},
    {"id": "T-2", "text": "c d", "label": "y", "metadata": {"Datum": "02.06.2026"}},
]


@pytest.fixture
def tickets(index: Index) -> Index:
    index.add(pd.DataFrame(TICKETS), **NAMES)
    return index


def _documents(index: Index) -> list[dict[str, Any]]:
    return [document.as_row() for document in index.documents()]


def _ids(index: Index) -> list[str]:
    return [document.id for document in index.documents()]


@pytest.mark.parametrize(
    "source",
    [
        pd.DataFrame(TICKETS),
        pd.DataFrame(TICKETS).set_index("Ticket-Nr"),
        pd.DataFrame(TICKETS).set_index(["Ticket-Nr", "Kategorie"]),
        pd.DataFrame(TICKETS).to_dict("records"),
    ],
    ids=["pandas", "named index", "levels", "mappings"],
)
def test_fields_are_named_by_keywords_and_remembered(index: Index, source: Any) -> None:
    index.add(source, **NAMES)
    assert _documents(index) == DOCUMENTS
    assert index.info().source_fields == STORED
    assert index.add(source).n_unchanged == 2


def test_an_index_without_a_name_is_no_field(index: Index) -> None:
    index.add(pd.DataFrame({"text": ["a"]}, index=["row"]))
    (document,) = index.documents()
    assert document.metadata == {}
    assert document.id != "row"


def test_fields_as_one_object_are_read_as_they_are(tickets: Index) -> None:
    with pytest.raises(SourceError, match="no text field 'text'"):
        tickets.add(pd.DataFrame(TICKETS), fields=Fields(id="Ticket-Nr"))
    with pytest.raises(OptionError, match="give text, id, label and metadata, or"):
        tickets.add([], fields=Fields(), text="Betreff")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("text_field", ": the field is named with text="), ("nonsense", "")],
)
def test_an_unknown_keyword_is_an_error_that_names_the_right_one(
    index: Index, name: str, hint: str
) -> None:
    add: Callable[..., object] = index.add
    with pytest.raises(TypeError) as caught:
        add([], **{name: "Betreff"})
    assert str(caught.value) == f"add() got an unexpected keyword argument {name!r}{hint}"


@pytest.mark.parametrize("metadata", ["Datum", [1], 5])
def test_metadata_is_a_list_of_names(index: Index, metadata: Any) -> None:
    with pytest.raises(OptionError):
        index.add([{"text": "a"}], metadata=metadata)


def test_what_is_recorded_are_the_names_that_the_source_has(index: Index) -> None:
    assert index.info().source_fields is None
    index.add([{"text": "a", "id": "1"}])
    assert index.info().source_fields == SourceFields("text", "id", None, None)


def test_a_run_without_documents_records_nothing(index: Index) -> None:
    index.add([{"body": "a"}], on_error=OnError.SKIP, date_formats={"d": "%Y-%m-%d"})
    info = index.info()
    assert (info.source_fields, info.date_formats) == (None, {})


def test_names_are_recorded_with_the_first_window(index: Index) -> None:
    def rows() -> Any:
        for n in range(8):  # a window
            yield {"Betreff": f"text {n}", "Ticket-Nr": f"T-{n}"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(rows(), text="Betreff", id="Ticket-Nr")
    assert len(index) == 8
    assert index.info().source_fields == SourceFields("Betreff", "Ticket-Nr", None, None)


def test_a_failed_first_commit_records_nothing(
    index: Index, encoder: WordEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder, "encode", fail)
    with pytest.raises(KeyboardInterrupt):
        index.add([{"Betreff": "a"}], text="Betreff", date_formats={"Datum": "%d.%m.%Y"})
    info = index.info()
    assert (info.n_documents, info.source_fields, info.date_formats) == (0, None, {})


def test_other_names_hold_for_their_run_alone(tickets: Index) -> None:
    tickets.add([{"body": "e f", "key": "T-3"}], text="body", id="key")
    assert _ids(tickets) == ["T-1", "T-2", "T-3"]
    assert tickets.info().source_fields == STORED


@pytest.mark.parametrize("name", ["e.jsonl", "e.parquet"])
def test_the_export_of_an_index_changes_nothing_in_it(
    tickets: Index, tmp_path: Path, name: str
) -> None:
    tickets.export(tmp_path / name)
    assert tickets.add(tmp_path / name).n_unchanged == 2
    assert _documents(tickets) == DOCUMENTS


def test_no_plain_name_stands_in_where_a_stored_one_is_there(tickets: Index) -> None:
    row = {"Betreff": "the text", "text": "another", "Ticket-Nr": "T-3", "label": "z"}
    tickets.add([row])
    document = _documents(tickets)[2]
    assert (document["id"], document["text"], document["label"]) == ("T-3", "the text", None)


def test_each_object_has_names_of_its_own(tickets: Index) -> None:
    stored = {"Ticket-Nr": "T-9", "Betreff": "e f", "Kategorie": "x"}
    plain = {"id": "T-8", "text": "g h", "label": "y"}
    for rows in ([plain, stored], [{**stored, "Ticket-Nr": "T-7"}, {**plain, "id": "T-6"}]):
        tickets.add(rows)
    added = _documents(tickets)[2:]
    assert [(row["id"], row["label"]) for row in added] == [
        ("T-8", "y"),
        ("T-9", "x"),
        ("T-7", "x"),
        ("T-6", "y"),
    ]
    assert [row["metadata"] for row in added] == [{}] * 4


def test_the_same_rows_again_change_nothing_where_some_lack_the_label(index: Index) -> None:
    rows = [
        {"doc": "a", "text": "one", "category": "x", "label": "L1"},
        {"doc": "b", "text": "two", "label": "L2"},
    ]
    index.add(rows, id="doc", label="category")
    before = _documents(index)
    assert index.add(rows).n_unchanged == 2
    assert _documents(index) == before
    assert before[1]["label"] is None


def test_a_test_set_of_another_field_has_its_values_in_the_plain_label(index: Index) -> None:
    rows = [
        {"id": f"{topic}{i}", "text": f"{word} {i}", "cat": "ab"[i % 2], "topic": topic}
        for topic, word in (("food", "soup"), ("rain", "wet"))
        for i in range(8)
    ]
    index.add(rows, label="cat")
    test = [
        {"text": f"{row['text']} more", "label": row["topic"], "cat": row["cat"]} for row in rows
    ]
    evaluation = index.evaluate(LabelTask("topic", test=test, k=1), n_resamples=0)
    assert evaluation.best.values["accuracy"] == 1.0


def test_rows_may_lack_a_stored_label_and_metadata(tickets: Index) -> None:
    tickets.add([{"Betreff": "e f", "Ticket-Nr": "T-1"}])
    assert _documents(tickets)[0] == {**DOCUMENTS[0], "text": "e f"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "Titel,Ticket-Nr\na,T-9\n",
            "no text field 'Betreff', as in the index's first run; there is 'Titel', 'Ticket-Nr'; "
            "try --text-field NAME",
        ),
        (
            "a.csv",
            "text,Nummer\na,T-9\n",
            "no id field 'Ticket-Nr', as in the index's first run; there is 'text', 'Nummer'; "
            "try --id-field NAME, or --mix-ids for ids made from texts",
        ),
        (
            "a.txt",
            "a line\n",
            "no id field 'Ticket-Nr', as in the index's first run; there is 'text'; "
            "try --id-field NAME, or --mix-ids for ids made from texts",
        ),
    ],
)
def test_no_other_column_stands_in_for_a_stored_name(
    tickets: Index, tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SourceError) as caught:
        tickets.add(path)
    assert str(caught.value) == f"{path}: {message}"
    assert _documents(tickets) == DOCUMENTS


def test_lines_and_folders_fit_where_their_ids_do(tickets: Index, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("from a folder")
    tickets.add(folder)
    (lines := tmp_path / "lines.txt").write_text("from a line\n")
    assert tickets.add(lines, mix_ids=True).n_new == 1
    assert tickets.add(lines, mix_ids=True).n_unchanged == 1
    assert [document.text for document in tickets.documents()][2:] == [
        "from a folder",
        "from a line",
    ]


def test_a_table_with_a_semicolon_and_plain_names_is_read(tickets: Index, tmp_path: Path) -> None:
    (path := tmp_path / "a.csv").write_text("id;text\nT-3;e f\n")
    tickets.add(path)
    assert _ids(tickets) == ["T-1", "T-2", "T-3"]


WITH_IDS = [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]
WITHOUT = [{"text": "one"}, {"text": "three"}]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("sync", [False, True])
def test_ids_from_texts_do_not_come_beside_ids_of_their_own(
    index: Index, dry_run: bool, sync: bool
) -> None:
    index.add(WITH_IDS)
    with pytest.raises(IndexMismatchError, match=r"such as 'b'.*--id-field, or add --mix-ids"):
        index.add(WITHOUT, dry_run=dry_run, sync=sync)
    assert _ids(index) == ["a", "b"]
    assert index.add(WITHOUT, mix_ids=True).n_new == 2
    assert index.add(WITHOUT).n_unchanged == 2  # as they are there now


def test_ids_of_their_own_do_not_come_beside_ids_from_texts(index: Index) -> None:
    index.add(WITHOUT)
    with pytest.raises(IndexMismatchError, match=r"such as 'a'.*new index, or add --mix-ids"):
        index.add(WITH_IDS)
    assert len(index) == 2
    assert index.add(WITH_IDS, mix_ids=True).n_new == 2


def test_ids_made_from_texts_may_be_given(index: Index, tmp_path: Path) -> None:
    index.add([*WITHOUT, {"text": "one"}])
    index.export(tmp_path / "e.jsonl")
    assert index.add(tmp_path / "e.jsonl").n_unchanged == 3
    other = Index.create(tmp_path / "other", model=WordEncoder())
    other.add(tmp_path / "e.jsonl")
    assert other.add([*WITHOUT, {"text": "four"}]).n_new == 1


def test_sources_with_and_without_ids_are_read_again(index: Index) -> None:
    index.add(WITHOUT[1:], WITH_IDS)
    assert index.add(WITHOUT[1:], WITH_IDS).n_unchanged == 3
    assert index.add(WITHOUT, WITH_IDS).n_new == 1


def test_an_index_from_before_names_were_recorded_is_judged_by_its_documents(
    index: Index,
) -> None:
    index.add(WITH_IDS)
    with index._open.store.write() as writer:
        writer.set("source_fields", None)
    with pytest.raises(IndexMismatchError):
        index.add(WITHOUT)
    assert index.info().source_fields is None
    index.add(WITH_IDS)
    assert index.info().source_fields == SourceFields("text", "id", None, None)


def test_forms_of_dates_are_stored_by_field(tickets: Index) -> None:
    tickets.add(pd.DataFrame(TICKETS), date_formats={"Datum": "%d.%m.%Y"})
    tickets.declare(date_formats={"Ende": "%Y/%m/%d %H:%M"})
    forms = {"Datum": "%d.%m.%Y", "Ende": "%Y/%m/%d %H:%M"}
    assert tickets.info().date_formats == forms
    tickets.add([], date_formats={})
    assert tickets.info().date_formats == forms


def test_declared_names_are_the_defaults_of_later_runs(index: Index) -> None:
    index.declare(text="Betreff")
    index.declare(id="Ticket-Nr", metadata=())
    index.add(pd.DataFrame(TICKETS))
    assert _documents(index)[0] == {"id": "T-1", "text": "a b", "label": None, "metadata": {}}
    assert index.info().source_fields == SourceFields("Betreff", "Ticket-Nr", None, ())


def test_a_declared_text_leaves_the_other_names_to_the_first_run(index: Index) -> None:
    index.declare(text="Betreff")
    index.add(pd.DataFrame(TICKETS), **NAMES | {"text": None})
    assert index.info().source_fields == STORED


def test_a_declared_name_leaves_the_text_to_the_first_run(index: Index) -> None:
    index.declare(label="Kategorie")
    index.add(pd.DataFrame(TICKETS), text="Betreff", id="Ticket-Nr")
    assert index.info().source_fields == SourceFields("Betreff", "Ticket-Nr", "Kategorie", None)


def test_a_named_label_is_recorded_if_only_later_rows_have_it(index: Index) -> None:
    rows: list[dict[str, Any]] = [{"id": f"d{i}", "text": f"text {i}"} for i in range(700)]
    rows[650]["Kategorie"] = "x"
    index.add(rows, label="Kategorie")
    index.add([{"id": "new", "text": "new", "Kategorie": "y"}])
    assert _documents(index)[-1] == {"id": "new", "text": "new", "label": "y", "metadata": {}}


def test_a_label_that_a_later_run_names_first_is_recorded(index: Index) -> None:
    index.add(pd.DataFrame(TICKETS)[["Ticket-Nr", "Betreff"]], text="Betreff", id="Ticket-Nr")
    index.add(pd.DataFrame(TICKETS), label="Kategorie", metadata=["Datum"])
    assert index.info().source_fields == SourceFields("Betreff", "Ticket-Nr", "Kategorie", None)
    index.add(pd.DataFrame(TICKETS), label="Rest", metadata=[])  # once
    assert index.info().source_fields == SourceFields("Betreff", "Ticket-Nr", "Kategorie", None)


def test_ids_that_are_mixed_in_become_no_default(index: Index) -> None:
    index.add([{"text": "a b"}, {"text": "c d"}])
    index.add(pd.DataFrame(TICKETS), text="Betreff", id="Ticket-Nr", mix_ids=True)
    index.add([{"text": "e f"}])
    assert len(index) == 5


@pytest.mark.parametrize(
    "form",
    ["%d.%m.%Y", "%d.%m.%y", "%Y-%m-%dT%H:%M:%S%z", "%m/%d/%Y %I:%M %p", "%d %B %Y", "%Y%j"],
)
def test_a_form_that_reads_a_date_is_taken(index: Index, form: str) -> None:
    index.declare(date_formats={"Datum": form})
    assert index.info().date_formats == {"Datum": form}


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ("%d.%m.", r"needs a year \(%Y\) and a month"),
        ("Datum", r"needs a year \(%Y\) and a month"),
        ("%H:%M", r"needs a year \(%Y\) and a month"),
        ("%d.%m.%Y %I:%M", "does not say whether the hour is before noon"),
        ("%d.%m.%Q", "%Q is none of"),
        ("%d.%m.%Y %d", "redefinition of group name"),
        ("", r"needs a year \(%Y\)"),
        ("%d.%m.%Y\ud800", "surrogates not allowed"),
    ],
)
def test_a_form_that_reads_no_date_is_an_error(index: Index, form: str, fault: str) -> None:
    with pytest.raises(OptionError, match=fault):
        index.declare(date_formats={"Datum": form})
    with pytest.raises(OptionError, match=fault):
        index.add(WITH_IDS, date_formats={"Datum": form})
    assert len(index) == 0


@pytest.mark.parametrize(
    "formats", ["Datum=%d", {"Datum": None}, {1: "%d.%m.%Y"}, {"": "%d.%m.%Y"}]
)
def test_forms_of_another_kind_are_an_error(index: Index, formats: Any) -> None:
    with pytest.raises(OptionError):
        index.declare(date_formats=formats)


@pytest.mark.parametrize(("key", "forged"), [("source_fields", [1]), ("date_formats", {"a": 1})])
def test_a_forged_setting_stops_a_run_but_not_info(index: Index, key: str, forged: Any) -> None:
    with index._open.store.write() as writer:
        writer.set(key, forged)
    with pytest.raises(DamagedIndexError, match=key):
        index.add(WITH_IDS)
    info = index.info()
    assert info.damaged == (key,)
    assert getattr(info, key) is None
