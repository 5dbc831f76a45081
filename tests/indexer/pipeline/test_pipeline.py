"""Prefetched windows: what overlaps, the order of commits, and how a run ends."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from layerdex import Index
from layerdex.errors import ModelError, RowError
from layerdex.indexer.readers.sources import may_block
from layerdex.records import Encoded
from layerdex.storage.writer import Writer
from tests.encoders import ConcurrentWordEncoder, WordEncoder
from tests.index.expectations import corpus
from tests.storage.stored import read_live

WINDOW = 8  # of these encoders
PATIENCE_S = 20.0


class Watched(ConcurrentWordEncoder):
    """Calls ``before(number of the window)`` in the thread that encodes it, then encodes it."""

    def __init__(self, before: Callable[[int, Callable[[int], None]], None]) -> None:
        super().__init__(window=WINDOW)
        self._before = before
        self.threads: list[int] = []

    def encode(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoded:
        self.threads.append(threading.get_ident())
        number = int(texts[0].split()[-1]) // WINDOW
        self._before(number, on_progress or (lambda _: None))
        return super().encode(texts, layers, on_progress=on_progress)


def rows(n: int) -> list[dict[str, object]]:
    return [{"id": f"d{i}", "text": f"text {i}"} for i in range(n)]


class Stored:
    """Rows that come from a generator and have a length, as what lies on a disk has."""

    def __init__(self, generate: Callable[[], Iterator[dict[str, object]]]) -> None:
        self._generate = generate

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[dict[str, object]]:
        return self._generate()


def make(folder: Path, before: Callable[[int, Callable[[int], None]], None]) -> Index:
    return Index.create(folder / "index", model=Watched(before))


def reach(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S), "what should have run beside this did not"


def test_the_next_windows_are_read_and_encoded_beside_the_first(tmp_path: Path) -> None:
    is_read, is_encoding = threading.Event(), threading.Event()

    def before(number: int, _: object) -> None:
        if number == 0:
            reach(is_read)
            reach(is_encoding)
        if number == 1:
            is_encoding.set()

    def source() -> Iterator[dict[str, object]]:
        for i, row in enumerate(rows(5 * WINDOW)):
            yield row
            if i == 2 * WINDOW:
                is_read.set()

    index = make(tmp_path, before)
    assert index.add(Stored(source)).n_new == 5 * WINDOW


def test_a_window_is_committed_while_the_next_one_is_encoded(tmp_path: Path) -> None:
    is_committed = threading.Event()
    index = make(tmp_path, lambda number, _: reach(is_committed) if number == 2 else None)

    def see(done: int, _: int | None) -> None:
        if done == 2 * WINDOW and len(index) == 2 * WINDOW:
            is_committed.set()

    index.add(rows(3 * WINDOW), on_progress=see)
    assert len(index) == 3 * WINDOW


def test_no_more_than_two_windows_are_under_way(tmp_path: Path) -> None:
    n_read, most = [0], [0]
    index = make(tmp_path, lambda *_: time.sleep(0.01))

    def source() -> Iterator[dict[str, object]]:
        for row in rows(10 * WINDOW):
            n_read[0] += 1
            most[0] = max(most[0], n_read[0] - len(index))
            yield row

    index.add(Stored(source))
    assert WINDOW < most[0] <= 3 * WINDOW


def test_commits_keep_the_order_of_the_rows(tmp_path: Path) -> None:
    is_done = [threading.Event() for _ in range(6)]

    def before(number: int, _: object) -> None:
        if number % 2 == 0:  # waits for the window after it
            reach(is_done[number + 1])
        is_done[number].set()

    index = make(tmp_path, before)
    done: list[int] = []
    index.add(rows(6 * WINDOW), on_progress=lambda n, _: done.append(n))

    assert [document.id for document in index.documents()] == [f"d{i}" for i in range(6 * WINDOW)]
    assert done == [WINDOW * n for n in range(1, 7)]
    one_by_one = Index.create(tmp_path / "other", model=WordEncoder(window=WINDOW))
    one_by_one.add(rows(6 * WINDOW))
    found, expected = read_live(index.path), read_live(one_by_one.path)
    assert {i: v.vectors for i, v in found.items()} == {i: v.vectors for i, v in expected.items()}


def test_callbacks_come_in_the_thread_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerdex.indexer.pipeline.prefetch._INTERVAL_S", 0.01)

    def before(_: int, on_progress: Callable[[int], None]) -> None:
        for n in range(1, WINDOW):
            on_progress(n)
            time.sleep(0.02)

    index = make(tmp_path, before)
    reported: list[int] = []
    threads: set[int] = set()

    def see(done: int, _: int | None) -> None:
        reported.append(done)
        threads.add(threading.get_ident())

    index.add(rows(3 * WINDOW), on_progress=see)
    encoder = index.encoder
    assert isinstance(encoder, Watched)
    assert threads == {threading.get_ident()}
    assert threading.get_ident() not in encoder.threads
    assert reported == sorted(reported)
    assert {WINDOW, 2 * WINDOW, 3 * WINDOW} <= set(reported)
    assert len(set(reported)) > 6  # also within windows


def test_a_slow_reader_does_not_keep_a_finished_window_from_its_commit(tmp_path: Path) -> None:
    index = make(tmp_path, lambda *_: time.sleep(0.05))
    n_there: list[int] = []

    def source() -> Iterator[dict[str, object]]:
        for i, row in enumerate(rows(2 * WINDOW)):
            if i >= WINDOW:
                time.sleep(0.1)
            n_there.append(len(index))
            yield row

    index.add(Stored(source))
    assert n_there[-2] == WINDOW


def test_windows_of_a_source_that_may_block_are_committed_first(tmp_path: Path) -> None:
    index = make(tmp_path, lambda *_: time.sleep(0.05))
    n_there: list[int] = []

    def source() -> Iterator[dict[str, object]]:
        for row in rows(3 * WINDOW):
            n_there.append(len(index))
            yield row

    index.add(rows(0), source())
    assert n_there == [0] * WINDOW + [WINDOW] * WINDOW + [2 * WINDOW] * WINDOW


def test_which_sources_may_block(tmp_path: Path) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file.jsonl"
    os.mkfifo(pipe)
    file.write_text("")
    lasting: list[Any] = [
        file,
        str(tmp_path),
        "nothing.jsonl",
        "a\0b",
        [],
        (),
        pd.DataFrame(),
        Stored(lambda: iter([])),
    ]
    passing: list[Any] = [
        "-",
        pipe,
        str(pipe),
        iter([]),
        map(dict, []),
        (row for row in rows(1)),
        Path("-"),
    ]
    assert [may_block(one) for one in lasting] == [False] * len(lasting)
    assert [may_block(one) for one in passing] == [True] * len(passing)


@pytest.mark.parametrize("kind", ["a bad row", "a failing source"])
def test_what_came_before_a_failure_to_read_stays(kind: str, tmp_path: Path) -> None:
    index = make(tmp_path, lambda *_: time.sleep(0.05))
    good = rows(2 * WINDOW)

    def source() -> Iterator[dict[str, object]]:
        yield from good
        if kind == "a failing source":
            raise ValueError("the source failed")
        yield {"id": "bad", "text": None}
        yield from rows(3 * WINDOW)[2 * WINDOW :]

    with pytest.raises(RowError if kind == "a bad row" else ValueError):
        index.add(Stored(source))
    assert len(index) == 2 * WINDOW
    assert index.verify() == []


def test_nothing_is_committed_that_came_after_a_window_that_failed(tmp_path: Path) -> None:
    third = threading.Event()

    def before(number: int, _: object) -> None:
        if number == 1:
            reach(third)
            raise ModelError("no vectors")
        if number == 2:
            third.set()

    index = make(tmp_path, before)
    with pytest.raises(ModelError, match="no vectors"):
        index.add(rows(6 * WINDOW))
    assert len(index) == WINDOW
    assert index.verify() == []


def test_a_commit_that_fails_ends_the_run_and_what_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make(tmp_path, lambda *_: None)
    commit, n_commits = Writer.commit, [0]

    def failing(self: Writer, *args: object) -> None:
        n_commits[0] += 1
        if n_commits[0] == 2:
            raise OSError("no space")
        commit(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "commit", failing)
    with pytest.raises(OSError, match="no space"):
        index.add(rows(6 * WINDOW))
    assert n_commits[0] == 2
    assert len(index) == WINDOW
    assert index.verify() == []


def test_an_interruption_ends_the_encoding_at_its_next_progress(tmp_path: Path) -> None:
    n_told = [0]
    is_encoding = threading.Event()

    def before(_: int, on_progress: Callable[[int], None]) -> None:
        is_encoding.set()
        for n in range(1, 100):
            on_progress(n % WINDOW)
            n_told[0] = n
            time.sleep(0.2)

    index = make(tmp_path, before)

    def source() -> Iterator[dict[str, object]]:
        yield from rows(WINDOW)
        reach(is_encoding)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(Stored(source))
    alive = [one.name for one in threading.enumerate() if one.name.startswith("layerdex-encode")]
    assert alive == []
    assert n_told[0] < 20
    assert len(index) == 0


def test_an_encoder_that_does_not_ask_for_threads_is_called_in_the_callers(tmp_path: Path) -> None:
    threads: list[int] = []

    class Plain(WordEncoder):
        def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
            threads.append(threading.get_ident())
            return super().encode(texts, layers)

    index = Index.create(tmp_path / "index", model=Plain(window=WINDOW))
    index.add(corpus(20))
    assert threads == [threading.get_ident()] * 3


def test_an_encoder_that_says_it_is_not_concurrent_is_called_in_the_callers_thread(
    tmp_path: Path,
) -> None:
    index = make(tmp_path, lambda *_: None)
    encoder = index.encoder
    assert isinstance(encoder, Watched)
    encoder.is_concurrent = False  # type: ignore[assignment]
    index.add(rows(3 * WINDOW))
    assert encoder.threads == [threading.get_ident()] * 3


def test_bytes_are_told_as_far_as_windows_are_committed(tmp_path: Path) -> None:
    is_third_begun = threading.Event()

    def before(number: int, _: object) -> None:
        if number == 1:  # begins when the first window is encoded, and the third has been read
            reach(is_third_begun)

    def reported(n_bytes: int, n_total: int) -> None:
        shares.append(n_bytes / n_total)
        is_third_begun.set()

    index = make(tmp_path, before)
    path = tmp_path / "source.jsonl"
    lines = [{**row, "text": f"{'long ' * 5_000}{row['text']}"} for row in rows(8 * WINDOW)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    shares: list[float] = []

    index.add(path, on_bytes=reported, on_progress=lambda *_: None)

    assert shares[0] < 1.5 / 8
    assert shares[-1] == 1


def test_a_window_without_changes_is_not_waited_for(tmp_path: Path) -> None:
    index = make(tmp_path, lambda *_: None)
    index.add(rows(WINDOW))
    done, seen = [0], []

    def source() -> Iterator[dict[str, object]]:
        for row in rows(WINDOW + 2):
            seen.append(done[0])
            yield row

    index.add(Stored(source), on_progress=lambda n, _: done.__setitem__(0, n))
    assert seen == [0] * WINDOW + [WINDOW] * 2


def test_a_callbacks_own_stop_iteration_comes_out_as_it_is(tmp_path: Path) -> None:
    index = make(tmp_path, lambda *_: None)

    def stop(*_: object) -> None:
        raise StopIteration("enough")

    with pytest.raises(StopIteration, match="enough"):
        index.add(rows(3 * WINDOW), on_progress=stop)
    assert index.verify() == []


def test_merging_on_the_way_does_not_disturb_windows_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerdex.indexer.pipeline.build._WINDOWS_BEFORE_MERGING", 12)
    first = rows(40 * WINDOW)
    relabelled = [{**row, "label": "new"} for row in first[::2]]
    changed = [{**row, "text": f"changed {row['text']}"} for row in first[1::2]]
    second = [row for pair in zip(relabelled, changed, strict=True) for row in pair]
    found = []
    for name, encoder in (("prefetched", ConcurrentWordEncoder()), ("serial", WordEncoder())):
        index = Index.create(tmp_path / name, model=encoder)
        reports = [index.add(first), index.add(second), index.add(second)]
        assert index.verify() == []
        assert reports[2].n_unchanged == len(first)
        live = read_live(index.path)
        found.append((reports, {i: (v.text, v.label, v.vectors) for i, v in live.items()}))
    assert found[0] == found[1]


def _give(**changes: Any) -> Callable[[Encoded], object]:
    return lambda encoded: dataclasses.replace(encoded, **changes)


WRONG: dict[str, tuple[Callable[[Encoded], object], str]] = {
    "nothing": (lambda _: None, "returned NoneType, not Encoded"),
    "a list": (_give(vectors=[[[1.0]]]), "vectors that are not an array of the right type"),
    "no numbers of tokens": (_give(n_tokens=None), "n_tokens that are not an array"),
    "a number too few": (_give(n_tokens=np.ones(7, dtype=np.int32)), r"shape \(7,\), not \(8,\)"),
    "one cut too many": (_give(truncated=np.ones(9, dtype=bool)), r"shape \(9,\), not \(8,\)"),
    "numbers for cuts": (_give(truncated=np.ones(8)), "truncated that are not an array"),
    "negative numbers": (_give(n_tokens=np.full(8, -1)), "n_tokens that are not all from 0"),
    "vast numbers": (_give(n_tokens=np.full(8, 1 << 40)), "n_tokens that are not all from 0"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_invalid_result_of_the_encoder_is_an_error_and_is_not_stored(
    kind: str, tmp_path: Path
) -> None:
    change, pattern = WRONG[kind]

    class Wrong(WordEncoder):
        def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
            encoded = super().encode(texts, layers)
            return change(encoded) if "text 8" in texts else encoded  # type: ignore[return-value]

    index = Index.create(tmp_path / "index", model=Wrong(window=WINDOW))
    with pytest.raises(ModelError, match=pattern):
        index.add(rows(2 * WINDOW))
    assert len(index) == WINDOW
    assert index.verify() == []
