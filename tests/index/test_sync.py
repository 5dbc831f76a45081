"""``add`` with ``sync`` and ``dry_run``: what goes when it has vanished, and what never does."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from layerdex import Dialect, Index
from layerdex.choices import Change
from layerdex.errors import DamagedIndexError, RemovalError, RowError, SourceError
from tests.encoders import WordEncoder
from tests.index.expectations import corpus
from tests.results import first
from tests.storage.stored import lasting, query, read_versions

Row = dict[str, object]


def _ids(index: Index) -> list[str]:
    return [document.id for document in index.documents()]


def test_documents_that_are_in_no_source_are_removed_in_one_commit(index: Index) -> None:
    index.add(corpus(30), auto_compact=False)
    (before,) = query(index._open.store.path, "SELECT value FROM setting WHERE key = 'commits'")
    kept = [row for i, row in enumerate(corpus(30)) if i % 3]
    report = index.add(kept[:10], kept[10:], sync=True, max_removed=1.0)
    assert (report.n_read, report.n_unchanged, report.n_removed) == (20, 20, 10)
    assert _ids(index) == [row["id"] for row in kept]
    assert all(int(hit.id[1:]) % 3 for hit in first(index.search("word1 word2", k=30)))
    (after,) = query(index._open.store.path, "SELECT value FROM setting WHERE key = 'commits'")
    assert int(after[0]) == int(before[0]) + 1
    assert index.verify() == []


def test_without_sync_nothing_is_removed(index: Index) -> None:
    index.add(corpus(5))
    assert index.add(corpus(2)).n_removed == 0
    assert len(index) == 5


def test_more_than_a_statement_binds_can_vanish(tmp_path: Path) -> None:
    rows = [{"id": f"d{i}", "text": f"text {i}"} for i in range(2_500)]
    index = Index.create(tmp_path / "wide", model=WordEncoder(width=4, window=2_500), layers=0)
    index.add(rows)
    told: list[tuple[Change, str]] = []
    report = index.add(
        rows[1_000:1_010], sync=True, max_removed=1.0, on_change=lambda *one: told.append(one)
    )
    assert report.n_removed == 2_490
    assert _ids(index) == [f"d{i}" for i in range(1_000, 1_010)]
    gone = [f"d{i}" for i in (*range(1_000), *range(1_010, 2_500))]
    assert told == [(Change.REMOVED, one) for one in gone]


def test_a_dry_run_tells_what_the_run_then_does(index: Index, encoder: WordEncoder) -> None:
    index.add(corpus(20))
    rows: list[Row] = [*corpus(24)[5:], {"id": "d3", "text": "changed"}]
    rows[2] = {**rows[2], "label": "other"}
    encoder.encoded = []
    before = lasting(index._open.store.path)
    told: list[tuple[Change, str]] = []
    planned = index.add(rows, sync=True, dry_run=True, on_change=lambda *one: told.append(one))
    assert lasting(index._open.store.path) == before
    assert (encoder.encoded, planned.n_encoded) == ([], 0)
    assert sorted(told) == [
        *((Change.NEW, f"d{i}") for i in range(20, 24)),
        *((Change.REMOVED, f"d{i}") for i in (0, 1, 2, 4)),
        (Change.UPDATED, "d3"),
        (Change.UPDATED, "d7"),
    ]
    done: list[tuple[Change, str]] = []
    report = index.add(rows, sync=True, max_removed=4, on_change=lambda *one: done.append(one))
    assert done == told
    planned.n_encoded = report.n_encoded
    assert (planned, report.n_removed) == (report, 4)


def test_a_dry_run_needs_no_lock(index: Index) -> None:
    index.add(corpus(3))
    with index._open.store.write():
        assert (
            index.add(
                corpus(2), sync=True, max_removed=1.0, dry_run=True, lock_timeout_s=0
            ).n_removed
            == 1
        )


def test_a_rejected_row_keeps_its_document_as_it_is(index: Index) -> None:
    index.add(corpus(4))
    before = read_versions(index._open.store.path)
    rows: list[Row] = [
        {"id": "d0", "text": " "},
        {"id": "d1", "text": "a new text", "bad": [1]},
        {"id": "d2", "text": "a new text", "label": ["two", "labels"]},
        {**corpus(4)[3], "text": "changed"},
    ]
    report = index.add(rows, sync=True, on_error="skip")
    assert (report.n_rejected, report.n_updated, report.n_removed) == (3, 1, 0)
    assert read_versions(index._open.store.path)[:3] == before[:3]


@pytest.mark.parametrize(
    "bad", [{"id": [1], "text": "words"}, {"text": "words", "bad": [1]}, "no object", {"id": ""}]
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_row_of_nobody_knows_which_document_removes_nothing(
    index: Index, bad: Row, dry_run: bool
) -> None:
    index.add(corpus(4))
    with pytest.raises(RowError, match=r"\(1 rejected row may be of any document.*nothing w\w+ "):
        index.add([*corpus(2), bad], sync=True, on_error="skip", dry_run=dry_run)
    assert _ids(index) == ["d0", "d1", "d2", "d3"]
    assert index.add([*corpus(4), bad], sync=True, on_error="skip").n_removed == 0


def test_a_row_without_id_and_text_stands_for_no_document(index: Index, tmp_path: Path) -> None:
    source = tmp_path / "lines.txt"
    source.write_text("first\n\nsecond\nthird\n", encoding="utf-8")
    index.add(source, on_error="skip")
    source.write_bytes(b"third\n\n\xff\nfirst\n")
    assert index.add(source, sync=True, max_removed=1, on_error="skip").n_removed == 1
    assert [document.text for document in index.documents()] == ["first", "third"]


def test_a_file_that_is_no_text_any_more_keeps_its_document(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        (folder / name).write_text(f"the text of {name}", encoding="utf-8")
    index.add(folder)
    (folder / "a.txt").write_bytes(b"\x00\xff")
    (folder / "sub" / "c.txt").unlink()
    assert index.add(folder, sync=True, max_removed=1, on_error="skip").n_removed == 1
    assert _ids(index) == ["a.txt", "b.txt"]


def _fill(folder: Path) -> None:
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (folder / name).write_text(f"the text of {name}", encoding="utf-8")


def test_a_link_whose_target_is_gone_keeps_its_document(index: Index, tmp_path: Path) -> None:
    _fill(folder := tmp_path / "folder")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("linked text", encoding="utf-8")
    index.add(folder)
    (tmp_path / "elsewhere").unlink()
    (folder / "a").unlink()
    report = index.add(folder, sync=True, max_removed=1, on_error="skip")
    assert (report.n_rejected, report.n_removed) == (1, 1)
    assert _ids(index) == ["b", "link", "sub/c"]


def test_a_folder_that_cannot_be_read_removes_nothing(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _fill(folder := Path("folder"))
    index.add(folder)
    (folder / "a").unlink()

    def scan(path: Path) -> Any:
        if path == folder / "sub":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(RowError, match="nothing was removed"):
        index.add(folder, sync=True, on_error="skip")
    assert _ids(index) == ["a", "b", "sub/c"]


@pytest.mark.parametrize("name", ["s.jsonl", "s.csv", "s.parquet", "s.txt"])
def test_a_source_that_cannot_be_read_removes_nothing(
    index: Index, tmp_path: Path, name: str
) -> None:
    index.add(corpus(4))
    path = tmp_path / name
    for target in ("nowhere", name, None):
        path.mkdir() if target is None else path.symlink_to(target)
        with pytest.raises((SourceError, RowError)):
            index.add(corpus(2), path, sync=True, on_error="skip", format=name[2:])
        path.rmdir() if path.is_dir() else path.unlink()
    assert _ids(index) == ["d0", "d1", "d2", "d3"]


def test_a_file_that_shrinks_while_it_is_read_removes_nothing(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    rows = [{"id": f"d{n}", "text": f"word{n} " * 100} for n in range(400)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    index.add(path)
    window: list[object] = []

    def shrink(*count: object) -> None:
        if not window:
            window.append(count)
            os.truncate(path, 100_000)

    with pytest.raises(RowError, match="nothing was removed"):
        index.add(path, sync=True, max_removed=1.0, on_error="skip", on_bytes=shrink)
    assert len(index) == 400


def test_a_row_that_is_too_long_removes_nothing(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("first\nsecond text that is longer\nthird\n")
    index.add(path)
    path.write_text("first\nsecond text that is longer\n")
    with pytest.raises(RowError, match="nothing was removed"):
        index.add(
            path, sync=True, max_removed=1.0, on_error="skip", dialect=Dialect(max_row_bytes=20)
        )
    assert len(index) == 3
    assert index.add(path, sync=True, max_removed=1.0).n_removed == 1


def test_a_source_that_is_given_twice_removes_nothing(index: Index, tmp_path: Path) -> None:
    _fill(folder := tmp_path / "folder")
    index.add(folder)
    report = index.add(folder, folder, sync=True)
    assert (report.n_unchanged, report.n_repeated, report.n_removed) == (3, 3, 0)


def test_derived_ids_follow_their_texts(index: Index) -> None:
    texts = ["one", "two", "two", "three"]
    index.add([{"text": text} for text in texts])
    report = index.add(
        [{"text": text} for text in ("two", "four", "one")], sync=True, max_removed=1.0
    )
    assert (report.n_new, report.n_unchanged, report.n_removed) == (1, 2, 2)
    assert [document.text for document in index.documents()] == ["one", "two", "four"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_sources_without_a_document_are_refused(index: Index, dry_run: bool) -> None:
    nothing: list[Row] = []
    assert index.add(nothing, sync=True, dry_run=dry_run).n_removed == 0
    index.add(corpus(3))
    for rows in (nothing, [{"id": "d1", "text": ""}]):
        with pytest.raises(SourceError, match=r"hold no document.*nothing was removed"):
            index.add(rows, sync=True, dry_run=dry_run, on_error="skip")
    assert len(index) == 3


def test_sources_that_were_not_read_to_the_end_remove_nothing(index: Index) -> None:
    index.add(corpus(20))

    def interrupted() -> Iterator[Row]:
        yield from corpus(10)
        raise KeyboardInterrupt

    def broken() -> Iterator[Row]:
        yield from corpus(10)
        yield {"text": ""}

    with pytest.raises(KeyboardInterrupt):
        index.add(interrupted(), sync=True)
    with pytest.raises(RowError):
        index.add(broken(), sync=True)
    assert len(index) == 20


def test_a_damaged_row_is_not_removed(index: Index) -> None:
    index.add(corpus(5))
    query(index._open.store.path, "UPDATE document SET id = 'other' WHERE id = 'd3'")
    with pytest.raises(DamagedIndexError):
        Index.open(index._open.store.path, encoder=WordEncoder()).add(corpus(3), sync=True)
    live = "SELECT count(*) FROM document WHERE live"
    assert query(index._open.store.path, live) == [(5,)]


def test_what_vanished_can_come_back(index: Index) -> None:
    index.add(corpus(5))
    index.add(corpus(2), sync=True, max_removed=1.0)
    assert index.add(corpus(5), sync=True).n_new == 3
    assert _ids(index) == ["d0", "d1", "d2", "d3", "d4"]


def test_rows_before_a_write_to_their_file_are_committed(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [{"id": f"r{i}", "text": f"t {i}"} for i in range(11)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def touch(*_: object) -> None:
        os.utime(path, ns=(1, 1))

    with pytest.raises(RowError, match=r"log.jsonl: it was written to while it was read"):
        index.add(path, on_change=touch)

    assert len(index) == 11


@pytest.mark.parametrize(
    ("max_removed", "allowed"),
    [(0.1, False), (0.19, False), (0.2, True), (3, False), (4, True), (1, False), (1.0, True)],
)
def test_more_than_is_allowed_is_not_removed_but_what_is_new_stays(
    index: Index, max_removed: float, allowed: bool
) -> None:
    index.add(corpus(20))
    told: list[tuple[Change, str]] = []
    new = [{"id": f"new{i}", "text": f"new {i}"} for i in range(100)]  # these are no base to share

    def sync() -> int:
        return index.add(
            [*corpus(16), *new],
            sync=True,
            max_removed=max_removed,
            on_change=lambda *one: told.append(one),
        ).n_removed

    if allowed:
        assert sync() == 4
    else:
        said = (
            r"^4 of 20 documents would be removed, .* are in, nothing was removed; --max-removed 4"
        )
        with pytest.raises(RemovalError, match=said):
            sync()
    gone = [(Change.REMOVED, f"d{i}") for i in range(16, 20)]
    assert [change for change in told if change[0] is Change.REMOVED] == (gone if allowed else [])
    assert len(index) == (116 if allowed else 120)


def test_a_wrong_source_is_refused_again_when_it_is_run_again(index: Index) -> None:
    index.add(corpus(30))
    wrong = [{"id": f"w{i}", "text": f"wrong {i}"} for i in range(400)]
    for _ in range(2):
        with pytest.raises(RemovalError, match=r"^30 of 30 documents would be removed"):
            index.add(wrong, sync=True)
        assert index.add(wrong, sync=True, dry_run=True).n_before == 30
    with pytest.raises(RemovalError, match=r"^400 of 430 documents would be removed"):
        index.add(corpus(30), sync=True)
    assert index.add(corpus(30), sync=True, max_removed=400).n_removed == 400
    index.add([*corpus(30), *wrong])
    assert index.add([*corpus(27), *wrong], sync=True).n_removed == 3  # the refusals are over


def _interrupted(rows: list[Row]) -> Iterator[Row]:
    yield from rows
    raise KeyboardInterrupt


def test_a_wrong_source_is_refused_also_after_an_interruption(index: Index) -> None:
    index.add(corpus(30))
    wrong: list[Row] = [{"id": f"w{i}", "text": f"wrong {i}"} for i in range(400)]
    with pytest.raises(KeyboardInterrupt):
        index.add(_interrupted(wrong), sync=True)
    assert len(index) > 230
    with pytest.raises(RemovalError, match=r"^30 of 30 documents would be removed"):
        index.add(wrong, sync=True)


def test_an_interrupted_first_run_counts_as_there_before(index: Index) -> None:
    with pytest.raises(KeyboardInterrupt):
        index.add(_interrupted(corpus(400)), sync=True)
    assert len(index) > 200
    assert index.add(corpus(400)[5:], sync=True).n_removed == 5


def test_a_sync_without_changes_makes_no_commit(index: Index) -> None:
    index.add(corpus(30))
    before = query(index._open.store.path, "SELECT value FROM setting WHERE key = 'commits'")
    assert index.add(corpus(30), sync=True).n_removed == 0
    assert (
        query(index._open.store.path, "SELECT value FROM setting WHERE key = 'commits'") == before
    )


@pytest.mark.parametrize("answer", [True, False])
def test_who_is_asked_decides_above_a_tenth(index: Index, answer: bool) -> None:
    index.add(corpus(20))
    asked: list[tuple[int, int]] = []

    def ask(n_removed: int, n_documents: int) -> bool:
        asked.append((n_removed, n_documents))
        return answer

    assert index.add(corpus(18), sync=True, max_removed=ask).n_removed == 2
    assert asked == []
    if answer:
        assert index.add(corpus(16), sync=True, max_removed=ask).n_removed == 2
    else:
        with pytest.raises(RemovalError, match=r"more than a tenth: .* nothing was removed$"):
            index.add(corpus(16), sync=True, max_removed=ask)
    assert asked == [(2, 18)]
    assert len(index) == (16 if answer else 18)


def test_a_blank_row_keeps_its_document_as_it_is(index: Index) -> None:
    index.add(corpus(4))
    before = read_versions(index._open.store.path)
    texts = [None, " \t", *(row["text"] for row in corpus(4)[2:])]
    frame = pd.DataFrame(corpus(4)).assign(text=texts)
    report = index.add(frame, sync=True)
    assert (report.n_blank, report.n_unchanged, report.n_removed) == (2, 2, 0)
    assert read_versions(index._open.store.path) == before


@pytest.mark.parametrize(
    ("bad", "rows"),
    [([], "1 blank row"), ([{"id": "", "text": "a"}] * 2, "3 blank or rejected rows")],
)
def test_rows_without_a_readable_id_are_called_what_they_are(
    index: Index, bad: list[Row], rows: str
) -> None:
    index.add(corpus(4))
    source: list[Row] = [*corpus(2), {"id": "", "text": None}, *bad]
    with pytest.raises(RowError, match=rf"\({rows} may be of any document, as no id can be read\)"):
        index.add(source, sync=True, on_blank="skip", on_error="skip")
    assert len(index) == 4
