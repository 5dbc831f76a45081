"""Adding documents: what becomes of each row, and that nothing goes missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from layerdex import Dialect, Index
from layerdex.choices import OnError
from layerdex.errors import OptionError, RowError, SourceError
from layerdex.indexer.pipeline.pipeline import BuildReport
from layerdex.indexer.readers import Fields
from layerdex.records import Rejected, Scalar, Truncated
from tests.encoders import ReportingWordEncoder, WordEncoder
from tests.index.expectations import corpus
from tests.results import first
from tests.storage.stored import read_live, read_versions


def _counts(report: BuildReport) -> tuple[int, int, int, int]:
    """New, updated, unchanged and rejected; which must be all that was read."""
    counts = (report.n_new, report.n_updated, report.n_unchanged, report.n_rejected)
    assert sum(counts) == report.n_read
    return counts


def _ids(index: Index) -> list[str]:
    return [document.id for document in index.documents()]


def _get(index: Index, identifier: str) -> tuple[str, str | None, dict[str, Scalar]]:
    (document,) = index.get(identifier)
    return document.text, document.label, document.metadata


def test_documents_are_kept_whole_and_in_order(index: Index) -> None:
    rows = corpus(20)
    assert _counts(index.add(rows)) == (20, 0, 0, 0)
    found = [
        {"id": d.id, "text": d.text, "label": d.label, **d.metadata} for d in index.documents()
    ]
    assert found == rows


def test_a_file_is_read_in_the_dialect_given(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('id^text\nx^"été"\n'.encode("cp1252"))
    index.add(path, dialect=Dialect(delimiter="^", encoding="cp1252", quoting="none"))
    assert _get(index, "x")[0] == '"été"'


def test_second_run_changes_and_encodes_nothing(index: Index, encoder: WordEncoder) -> None:
    index.add(corpus(20))
    versions, encoder.encoded = read_versions(index._open.store.path), []
    report = index.add(corpus(20))
    assert _counts(report) == (0, 0, 20, 0)
    assert (report.n_encoded, encoder.encoded) == (0, [])
    assert read_versions(index._open.store.path) == versions


def test_each_row_is_counted_once_under_its_fate(index: Index, encoder: WordEncoder) -> None:
    index.add(corpus(5))
    encoder.encoded = []
    rejected: list[Rejected] = []
    changed: list[dict[str, Any]] = [
        {"id": "d0", "text": corpus(5)[0]["text"]},
        {"id": "d1", "text": "another text"},
        {"id": "d2", "text": corpus(5)[2]["text"], "label": "other"},
        {"id": "d3", "text": corpus(5)[3]["text"], "size": 99},
        {"id": "new", "text": "a new text"},
        {"id": "d1", "text": "a third text"},
        {"id": "bad", "text": "  "},
        {"text": "no id"},
        {"id": "worse", "text": 7},
    ]
    report = index.add(changed, on_error="skip", on_reject=rejected.append)
    assert _counts(report) == (2, 3, 1, 3)
    assert report.n_encoded == 3
    assert encoder.encoded == ["another text", "a new text", "no id"]
    assert [one.origin.line for one in rejected] == [6, 7, 9]
    assert len(index) == 7


def test_update_replaces_the_text_and_keeps_id_and_place(index: Index) -> None:
    index.add(corpus(5))
    report = index.add([{"id": "d2", "text": "wholly other"}])
    assert _counts(report) == (0, 1, 0, 0)
    assert _ids(index) == [f"d{i}" for i in range(5)]
    assert _get(index, "d2")[0] == "wholly other"
    assert [hit.id for hit in first(index.search("wholly other", k=1))] == ["d2"]
    assert all(hit.text != corpus(5)[2]["text"] for hit in first(index.search("word1", k=9)))


def test_missing_label_keeps_the_old_one_and_null_clears_it(index: Index) -> None:
    index.add([{"id": "a", "text": "one", "label": "x"}])
    assert _counts(index.add([{"id": "a", "text": "one"}])) == (0, 0, 1, 0)
    assert _counts(index.add([{"id": "a", "text": "two"}])) == (0, 1, 0, 0)
    assert _get(index, "a") == ("two", "x", {})
    assert _counts(index.add([{"id": "a", "text": "two", "label": None}])) == (0, 1, 0, 0)
    assert _get(index, "a") == ("two", None, {})
    assert _counts(index.add([{"id": "a", "text": "two", "label": None}])) == (0, 0, 1, 0)
    assert _counts(index.add([{"id": "a", "text": "three", "label": "y"}])) == (0, 1, 0, 0)
    assert _get(index, "a") == ("three", "y", {})


def test_missing_metadata_is_kept_and_null_clears_it_field_by_field(index: Index) -> None:
    index.add([{"id": "a", "text": "one", "x": 1, "y": "two", "z": True}])
    index.add([{"id": "a", "text": "one", "x": None}])
    assert _get(index, "a")[2] == {"y": "two", "z": True}
    index.add([{"id": "a", "text": "changed", "y": "three", "new": 0.5}])
    assert _get(index, "a")[2] == {"new": 0.5, "y": "three", "z": True}
    assert _counts(index.add([{"id": "a", "text": "changed", "x": None}])) == (0, 0, 1, 0)
    index.add([{"id": "a", "text": "once more", "y": None, "z": None, "new": None}])
    assert _get(index, "a")[2] == {}


@pytest.mark.parametrize("change", [(1, 1.0), (1.0, True), (True, 1), (0, False), (1, "1")])
def test_change_of_type_alone_is_an_update(index: Index, change: tuple[Scalar, Scalar]) -> None:
    before, after = change
    index.add([{"id": "a", "text": "one", "x": before}])
    assert _counts(index.add([{"id": "a", "text": "one", "x": after}])) == (0, 1, 0, 0)
    found = _get(index, "a")[2]["x"]
    assert (type(found), found) == (type(after), after)
    assert _counts(index.add([{"id": "a", "text": "one", "x": after}])) == (0, 0, 1, 0)


def test_relabelling_encodes_nothing_and_keeps_the_vectors(
    index: Index, encoder: WordEncoder
) -> None:
    index.add(corpus(10))
    before, encoder.encoded = read_live(index._open.store.path), []
    index.add([{**row, "label": "new"} for row in corpus(10)])
    after = read_live(index._open.store.path)
    assert encoder.encoded == []
    assert {one.label for one in after.values()} == {"new"}
    assert [v.vectors for v in after.values()] == [v.vectors for v in before.values()]
    assert [v.row for v in after.values()] == [v.row for v in before.values()]


def test_explicit_ids_collide_within_a_run_across_sources(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "more.jsonl"
    path.write_text('{"id": "d1", "text": "from a file"}\n{"id": "e", "text": "fine"}\n')
    rejected: list[Rejected] = []
    other = [{**row, "text": "other"} for row in corpus(2)]
    report = index.add(corpus(12), path, other, on_error="skip", on_reject=rejected.append)
    assert _counts(report) == (13, 0, 0, 3)
    assert [str(one.origin) for one in rejected] == [f"{path}:1", "<memory>:1", "<memory>:2"]
    assert "'d1' was already given at <memory>:2" in rejected[0].reason
    assert _get(index, "d1")[0] == corpus(2)[1]["text"]


def test_repeated_texts_without_ids_are_all_kept(index: Index) -> None:
    rows = [{"text": text} for text in ["same", "other", *["same"] * 20]]
    assert _counts(index.add(rows)) == (22, 0, 0, 0)
    ids = _ids(index)
    first = ids[0]
    assert ids[2:] == [f"{first}-{n}" for n in range(2, 22)]
    assert _counts(index.add(rows)) == (0, 0, 22, 0)
    assert _counts(index.add([*rows, {"text": "same"}])) == (1, 0, 22, 0)
    assert _ids(index)[-1] == f"{first}-22"


def test_bad_row_ends_the_run_and_keeps_the_windows_before(index: Index) -> None:
    rows: list[dict[str, Any]] = [*corpus(30)]
    rows[18] = {"id": "bad", "text": None}
    with pytest.raises(RowError, match=r"<memory>:19: text is null"):
        index.add(rows)
    assert _ids(index) == [f"d{i}" for i in range(16)]
    rejected: list[Rejected] = []
    report = index.add(rows, on_error=OnError.SKIP, on_reject=rejected.append)
    assert _counts(report) == (13, 0, 16, 1)
    assert [one.origin.line for one in rejected] == [19]


def test_first_bad_row_is_the_one_named_whatever_is_wrong_with_it(index: Index) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "text": "one"},
        {"id": "a", "text": "two"},
        {"id": "b", "text": "three"},
        {"id": "c"},
        {"id": "a", "text": "four"},
    ]
    with pytest.raises(RowError, match=r"<memory>:2: id 'a' was already given"):
        index.add(rows)
    rejected: list[Rejected] = []
    index.add(rows, on_error="skip", on_reject=rejected.append)
    assert [one.origin.line for one in rejected] == [2, 4, 5]


def test_unknown_way_with_errors_is_an_error_before_anything_is_read(index: Index) -> None:
    n_read = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal n_read
        for row in corpus(1):
            n_read += 1
            yield row

    with pytest.raises(OptionError, match="'ignore'"):
        index.add(rows(), on_error="ignore")
    assert n_read == 0


def test_source_is_read_window_by_window(index: Index) -> None:
    n_read: list[int] = []
    seen: list[tuple[int, int, int | None]] = []

    def rows() -> Iterator[dict[str, object]]:
        for number, row in enumerate(corpus(20), 1):
            n_read.append(number)
            yield row

    index.add(
        rows(),
        n_total=20,
        on_progress=lambda done, total: seen.append((len(n_read), done, total)),
    )
    assert seen == [(8, 8, 20), (16, 16, 20), (20, 20, 20)]


def test_progress_within_a_window_leads_to_its_commit(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=ReportingWordEncoder())
    index.add(corpus(3))
    path = tmp_path / "source.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in corpus(20)))
    size = path.stat().st_size
    seen: list[tuple[int, int | None, int]] = []
    n_bytes: list[tuple[int, int]] = []

    index.add(
        path,
        n_total=20,
        on_bytes=lambda *told: n_bytes.append(told),
        on_progress=lambda done, total: seen.append((done, total, len(index))),
    )

    # three of the first window's rows are there; each commit is told after its last row
    first, second, third = [*range(4, 9), 8], [*range(9, 17), 16], [*range(17, 21), 20]
    assert [done for done, *_ in seen] == [*first, *second, *third]
    assert {total for _, total, _ in seen} == {20}
    assert [n for *_, n in seen] == [*[3] * 5, *[8] * 9, *[16] * 5, 20]
    assert len(n_bytes) == len(seen)
    assert n_bytes == sorted(n_bytes)
    assert n_bytes[0][0] == size * 4 // 8  # a short file is read whole for its first window
    assert n_bytes[-1] == (size, size)


def test_data_frame_is_a_source(index: Index) -> None:
    frame = pd.DataFrame(
        {
            "text": ["one", "two", "three"],
            "label": ["x", None, "y"],
            "year": [2019, 2020, 2021],
            "rate": [0.5, float("nan"), 1.5],
            "seen": [True, False, True],
            "day": pd.to_datetime(["2024-01-01", None, "2024-03-01"]),
        },
        index=[7, 7, 7],
    )
    assert _counts(index.add(frame)) == (3, 0, 0, 0)
    assert [(d.text, d.label, d.metadata) for d in index.documents()] == [
        ("one", "x", {"day": "2024-01-01T00:00:00", "rate": 0.5, "seen": True, "year": 2019}),
        ("two", None, {"seen": False, "year": 2020}),
        ("three", "y", {"day": "2024-03-01T00:00:00", "rate": 1.5, "seen": True, "year": 2021}),
    ]
    assert type(next(iter(index.documents())).metadata["year"]) is int


def test_named_fields_are_used(index: Index) -> None:
    fields = Fields(text="body", id="key", label="kind", metadata=("year",))
    row = {"body": "one", "key": 5, "kind": "x", "year": 1, "other": {"nested": 1}}
    index.add([row], fields=fields)
    assert _ids(index) == ["5"]
    assert _get(index, "5") == ("one", "x", {"year": 1})


@pytest.mark.parametrize("source", [7, {"text": "a mapping is one row"}])
def test_source_of_another_kind_is_an_error(index: Index, source: Any) -> None:
    with pytest.raises(SourceError, match="a path, a data frame or an iterable"):
        index.add(source)


def test_export_fed_to_a_new_index_gives_the_same(index: Index, tmp_path: Path) -> None:
    index.add(corpus(20))
    index.add([{"text": "no id"}, {"text": "no id"}, {"id": "d3", "text": "changed"}])
    index.add([{"id": "d4", "text": corpus(20)[4]["text"], "size": 4.0, "label": None}])
    index.delete("d5")
    exported = [
        {"id": d.id, "text": d.text, "label": d.label, "metadata": d.metadata}
        for d in index.documents()
    ]
    again = Index.create(tmp_path / "again", model=WordEncoder())
    assert _counts(again.add(exported)) == (21, 0, 0, 0)
    assert [(d.id, d.text, d.label, d.metadata) for d in again.documents()] == [
        (d.id, d.text, d.label, d.metadata) for d in index.documents()
    ]
    assert type(again.get("d4")[0].metadata["size"]) is float
    before, after = read_live(index._open.store.path), read_live(again._open.store.path)
    assert {i: v.vectors for i, v in after.items()} == {i: v.vectors for i, v in before.items()}
    assert _counts(index.add(exported)) == (0, 0, 21, 0)


def test_truncated_documents_are_counted_and_listed(index: Index) -> None:
    long = " ".join(f"w{i}" for i in range(13))
    report = index.add(
        [
            {"id": "a", "text": "short"},
            {"id": "b", "text": long},
            {"id": "c", "text": long + " more"},
            {"id": "fits", "text": " ".join(["w"] * 12)},
        ]
    )
    assert (report.n_truncated, index.info().n_truncated) == (2, 2)
    assert index.truncated() == [
        Truncated("b", len(long), 12, long),
        Truncated("c", len(long) + 5, 12, long + " more"),
    ]
    index.add([{"id": "b", "text": "short now"}])
    index.delete("c")
    assert (index.truncated(), index.info().n_truncated) == ([], 0)
