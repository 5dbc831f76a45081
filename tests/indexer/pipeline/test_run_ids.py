from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from layerdex.errors import StorageError
from layerdex.indexer.pipeline.run_ids import RunIds, content_hash
from layerdex.indexer.readers import read_source
from layerdex.records import Origin, Rejected, SourceDocument
from tests.indexer.readers.sources import documents


def derived(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def assign(ids: RunIds, text: str, id_: str | None = None, *, line: int = 1) -> str:
    """Return the id, or the whole message of the rejection."""
    document = SourceDocument(text, id=id_, origin=Origin("a.jsonl", line))
    return str(*ids.assign([(document, content_hash(text))]))


def of(**fields: Any) -> tuple[SourceDocument, bytes]:
    document = SourceDocument(**{"text": "a", "id": "x", **fields})
    return document, content_hash(document.text)


def assign_counting(pairs: list[tuple[SourceDocument, bytes]]) -> tuple[list[object], float]:
    """Return the ids, and how many instructions of SQLite's each took on average."""
    n_steps = 0

    def count() -> int:
        nonlocal n_steps
        n_steps += 1
        return 0

    with RunIds() as ids:
        ids._database.set_progress_handler(count, 1)
        return [*ids.assign(pairs)], n_steps / len(pairs)


def test_content_hash_is_of_the_text_as_given() -> None:
    assert content_hash(" ü\n") == hashlib.sha256(b" \xc3\xbc\n").digest()


def test_repeated_texts_are_numbered() -> None:
    with RunIds() as ids:
        assigned = [assign(ids, text) for text in ("a", "b", "a", "a", "b")]
    a, b = derived("a"), derived("b")
    assert assigned == [a, b, f"{a}-2", f"{a}-3", f"{b}-2"]


def test_repeated_lines_of_txt_files_are_all_kept(tmp_path: Path) -> None:
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_text("same\nsame\n")
    with RunIds() as ids:
        assigned = ids.assign(
            (document, content_hash(document.text))
            for name in ("1.txt", "2.txt")
            for document in documents(list(read_source(tmp_path / name)))
        )
    same = derived("same")
    assert assigned == [same, f"{same}-2", f"{same}-3", f"{same}-4"]


def test_explicit_id_is_taken_once_across_sources() -> None:
    first = SourceDocument("a", id="x", origin=Origin("1.csv", 7))
    second = SourceDocument("b", id="x", origin=Origin("2.csv", 3))
    with RunIds() as ids:
        assert ids.assign([(first, content_hash("a"))]) == ["x"]
        rejected = Rejected(
            Origin("2.csv", 3), "id 'x' was already given at 1.csv:7, with other content"
        )
        assert ids.assign([(second, content_hash("b"))] * 2) == [rejected] * 2


def test_derived_ids_step_aside_for_explicit_ones() -> None:
    a = derived("a")
    with RunIds() as ids:
        assert assign(ids, "other", a) == a
        assert assign(ids, "other", f"{a}-3") == f"{a}-3"
        assert [assign(ids, "a") for _ in range(3)] == [f"{a}-2", f"{a}-4", f"{a}-5"]


def test_explicit_id_that_was_derived_before_is_rejected() -> None:
    a = derived("a")
    with RunIds() as ids:
        assert assign(ids, "a", line=4) == a
        message = f"a.jsonl:9: id '{a}' was already given at a.jsonl:4"
        assert assign(ids, "b", a, line=9) == message


def test_only_a_row_that_is_the_same_in_everything_is_a_repeat() -> None:
    first = of(label="l", metadata={"n": 1, "m": "b"})
    others = [
        of(label="l", metadata={"n": 1.0, "m": "b"}),
        of(label="l", metadata={"n": True, "m": "b"}),
        of(label="l", metadata={"n": "1", "m": "b"}),
        of(label="l", metadata={"n": 1, "m": "b", "k": None}),
        of(label="l", metadata={"n": 1}),
        of(label=None, metadata={"n": 1, "m": "b"}),
        of(metadata={"n": 1, "m": "b"}),
        of(label="l", metadata={"n": 1, "m": "b"}, text="a "),
    ]
    same = of(label="l", metadata={"m": "b", "n": 1}, origin=Origin("b.jsonl", 3))
    with RunIds() as ids:
        assert ids.assign([first, same]) == ["x", None]
        assert all(isinstance(found, Rejected) for found in ids.assign(others))
        assert ids.assign([same]) == [None]


def test_a_derived_id_that_is_given_too_is_no_repeat() -> None:
    with RunIds() as ids:
        ids.assign([of(id=None)])
        (found,) = ids.assign([of(id=derived("a"))])
        assert isinstance(found, Rejected)


def test_documents_with_explicit_ids_are_not_counted_as_repeats() -> None:
    with RunIds() as ids:
        assert assign(ids, "a", "x") == "x"
        assert assign(ids, "a") == derived("a")


def test_case_and_accents_tell_ids_apart() -> None:
    with RunIds() as ids:
        names = ["a", "A", "a ", "é", "e\u0301", "1", "01"]
        assert [assign(ids, "t", name) for name in names] == names


def test_runs_do_not_know_each_other() -> None:
    with RunIds() as one, RunIds() as other:
        assert assign(one, "a", "x") == assign(other, "a", "x") == "x"


def test_window_gets_the_ids_that_its_documents_get_one_by_one() -> None:
    given = [
        SourceDocument(f"t{i % 7}", id=f"x{i % 11}" if i % 3 == 0 else None) for i in range(200)
    ]
    pairs = [(document, content_hash(document.text)) for document in given]
    with RunIds() as singly, RunIds() as together:
        expected = [one for pair in pairs for one in singly.assign([pair])]
        assert together.assign(pairs[:90]) + together.assign(pairs[90:]) == expected
        assert len({one for one in expected if isinstance(one, str)}) == 11 + 133


def test_ids_among_many_are_found_by_an_index() -> None:
    pairs = [
        (SourceDocument(f"t{i // 2}", id=None if i % 2 else f"x{i}"), content_hash(f"t{i // 2}"))
        for i in range(10_000)
    ]
    assigned, n_steps = assign_counting(pairs)
    assert n_steps < 100  # a ledger without an index would look at thousands of ids for each
    assert len(set(assigned)) == 10_000


def test_many_repeats_of_one_text_do_not_search_for_their_number() -> None:
    pair = (SourceDocument("same"), content_hash("same"))
    assigned, n_steps = assign_counting([pair] * 10_000)
    assert n_steps < 200  # trying all numbers from 2 on would be 5,000 inserts for each
    assert assigned[-1] == f"{derived('same')}-10000"


def test_failing_ledger_is_a_storage_error() -> None:
    ids = RunIds()
    ids.close()
    with pytest.raises(StorageError, match="cannot store the run's ids in a temporary file"):
        assign(ids, "a")
