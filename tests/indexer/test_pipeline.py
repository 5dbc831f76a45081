"""Windows encoded ahead: what overlaps, in which order it is committed, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import ModelError, RowError
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


def make(folder: Path, before: Callable[[int, Callable[[int], None]], None]) -> Index:
    return Index.create(folder / "index", encoder=Watched(before))


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
    assert index.add(source()).n_new == 5 * WINDOW


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

    index.add(source())
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
    one_by_one = Index.create(tmp_path / "other", encoder=WordEncoder(window=WINDOW))
    one_by_one.add(rows(6 * WINDOW))
    found, expected = read_live(index.store.path), read_live(one_by_one.store.path)
    assert {i: v.vectors for i, v in found.items()} == {i: v.vectors for i, v in expected.items()}


def test_callbacks_come_in_the_thread_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerdex.indexer.ahead._INTERVAL_S", 0.01)

    def before(_: int, on_progress: Callable[[int], None]) -> None:
        for n in range(1, WINDOW):
            on_progress(n)
            time.sleep(0.02)

    index = make(tmp_path, before)
    told: list[int] = []
    threads: set[int] = set()

    def see(done: int, _: int | None) -> None:
        told.append(done)
        threads.add(threading.get_ident())

    index.add(rows(3 * WINDOW), on_progress=see)
    encoder = index.encoder
    assert isinstance(encoder, Watched)
    assert threads == {threading.get_ident()}
    assert threading.get_ident() not in encoder.threads
    assert told == sorted(told)
    assert {WINDOW, 2 * WINDOW, 3 * WINDOW} <= set(told)
    assert len(set(told)) > 6  # also within windows


def test_a_slow_source_does_not_keep_a_finished_window_from_its_commit(tmp_path: Path) -> None:
    index = make(tmp_path, lambda *_: None)
    n_there: list[int] = []

    def source() -> Iterator[dict[str, object]]:
        for i, row in enumerate(rows(2 * WINDOW)):
            if i >= WINDOW:
                time.sleep(0.05)
            n_there.append(len(index))
            yield row

    index.add(source())
    assert n_there[-2] == WINDOW


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
        index.add(source())
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
        for n in range(1, 2_000):
            on_progress(n % WINDOW)
            n_told[0] = n
            time.sleep(0.01)

    index = make(tmp_path, before)

    def source() -> Iterator[dict[str, object]]:
        yield from rows(WINDOW)
        reach(is_encoding)
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        index.add(source())
    assert time.monotonic() - start < PATIENCE_S / 2
    assert n_told[0] < 1_900
    assert len(index) == 0
    alive = [one.name for one in threading.enumerate() if one.name.startswith("layerdex-encode")]
    assert alive == []


def test_an_encoder_that_does_not_ask_for_threads_is_called_in_the_callers(tmp_path: Path) -> None:
    threads: list[int] = []

    class Plain(WordEncoder):
        def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
            threads.append(threading.get_ident())
            return super().encode(texts, layers)

    index = Index.create(tmp_path / "index", encoder=Plain(window=WINDOW))
    index.add(corpus(20))
    assert threads == [threading.get_ident()] * 3
