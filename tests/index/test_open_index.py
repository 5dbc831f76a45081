"""The encoder of an open index is loaded once, whoever asks."""

from __future__ import annotations

import copy
import pickle
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from layerdex import Index
from layerdex.errors import LayerdexError
from layerdex.index.open_index import NotEncodedError, OpenIndex, QueryVectors
from layerdex.records import Encoded, Encoder
from layerdex.storage.snapshot import Snapshot
from tests.encoders import WordEncoder


def test_threads_that_ask_at_once_load_one_encoder(index: Index) -> None:
    loaded: list[Encoder] = []

    def load() -> Encoder:
        time.sleep(0.05)  # long enough for all threads to arrive
        loaded.append(WordEncoder())
        return loaded[-1]

    opened = OpenIndex(index._open.store, load)
    encoders: list[Encoder] = []
    threads = [threading.Thread(target=lambda: encoders.append(opened.encoder)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1
    assert {id(encoder) for encoder in encoders} == {id(loaded[0])}


def test_an_encoder_that_cannot_be_loaded_is_tried_again(index: Index) -> None:
    tries: list[int] = []

    def load() -> Encoder:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("not yet")
        return WordEncoder()

    opened = OpenIndex(index._open.store, load)
    for _ in range(2):
        try:
            _ = opened.encoder
        except OSError:
            assert len(tries) == 1
    assert len(tries) == 2


def test_a_question_that_starts_again_encodes_nothing_twice(tmp_path: Path) -> None:
    encoder = WordEncoder()
    index = Index.create(tmp_path / "index", model=encoder)
    vectors = QueryVectors(index._open, ["word1", "word2"])
    with pytest.raises(NotEncodedError):
        vectors.at([1])
    assert list(vectors.encode([1])) == [1]
    assert sorted(vectors.encode([1, 3])) == [1, 3]
    assert sorted(vectors.at([3])) == [1, 3]
    assert encoder.encoded == ["word1", "word2"] * 2


def test_no_text_loads_no_encoder(tmp_path: Path) -> None:
    Index.create(tmp_path / "index", model=WordEncoder()).add([{"id": "a", "text": "word1"}])
    index = Index.open(tmp_path / "index", model="no such model")
    assert index.search([]) == []
    assert QueryVectors(index._open, []).encode([1])[1].shape == (0, index.settings.width)


@pytest.mark.parametrize("error", [sqlite3.OperationalError("no such table"), OSError("down")])
def test_an_error_of_the_encoder_is_its_own(tmp_path: Path, error: Exception) -> None:
    encoder = WordEncoder()
    index = Index.create(tmp_path / "index", model=encoder)
    index.add([{"id": "a", "text": "word1"}])

    def fail(*_: object) -> NoReturn:
        raise error

    encoder.encode = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(type(error)) as raised:
        index.search("word1")
    assert raised.value is error


def test_no_transaction_is_open_while_texts_are_encoded(tmp_path: Path) -> None:
    encoder = WordEncoder()
    index = Index.create(tmp_path / "index", model=encoder)
    index.add([{"id": "a", "text": "word1"}])
    encode, log_sizes = encoder.encode, list[int]()

    def encode_slowly(texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        if texts == ["word1"]:
            writer = Index.open(tmp_path / "index", encoder=WordEncoder())
            writer.add([{"id": "b", "text": "word2"}])
            log_sizes.append((tmp_path / "index" / "catalog.sqlite3-wal").stat().st_size)
        return encode(texts, layers)

    encoder.encode = encode_slowly  # type: ignore[method-assign]
    [hits] = index.search("word1")
    assert log_sizes == [0]  # the writer could empty SQLite's log
    assert {hit.id for hit in hits} == {"a", "b"}  # the newest commit answers


@pytest.mark.parametrize("give_up", [pickle.dumps, copy.deepcopy])
def test_an_index_and_its_views_are_opened_again_and_not_pickled(
    index: Index, give_up: Callable[[object], object]
) -> None:
    for held in (index, index.at(layer=1), {"index": index}):
        with pytest.raises(TypeError, match=r"^an Index is not pickled: open it by"):
            give_up(held)
    assert len(copy.copy(index)) == len(index)


def counted_tries(index: Index, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets an entry for each try of a question."""
    tries: list[int] = []
    query = index._open.store.query

    def count(question: Callable[[Snapshot], object]) -> object:
        tries.append(1)
        return query(question)

    monkeypatch.setattr(index._open.store, "query", count)
    return tries


def test_the_second_question_of_a_target_is_answered_by_its_first_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add([{"id": f"d{n}", "text": f"word{n}", "label": str(n % 2)} for n in range(6)])
    tries = counted_tries(index, monkeypatch)
    asked: list[Callable[[], object]] = [
        lambda: index.search("word1"),
        lambda: index.search("word2", layer=[1, 2]),
        lambda: index.classify("word1", layer=1),
    ]
    for ask in asked:
        for n_tries in (2, 1, 1):
            tries.clear()
            answer = ask()
            assert len(tries) == n_tries
        assert answer == ask()
    for texts in ([f"word{n}" for n in range(17)], []):
        index.search(texts)
    tries.clear()
    index.search([f"word{n}" for n in range(17)])  # many are encoded once it is sure where
    assert len(tries) == 2


def test_another_best_layer_is_found_though_texts_were_encoded_for_the_last(tmp_path: Path) -> None:
    encoder = WordEncoder()
    index = Index.create(tmp_path / "index", model=encoder)
    index.add([{"id": f"d{n}", "text": f"word{n}", "label": str(n % 2)} for n in range(6)])
    assert index.search("word1")[0].target.layers == (3,)
    index.save_best(replace(index.evaluate(), best_layer=1))
    assert index.search("word1")[0].target.layers == (1,)
    steps: list[int] = []
    index.search("word1", layer=2)
    index.search("word1", on_progress=lambda done, _: steps.append(done))
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    "ask",
    [
        lambda index: index.at(layer=1, transform="center").search("word1"),
        lambda index: index.at(layer=[1, 2]).classify("word1"),
        lambda index: index.at(layer=[1, 2], fuse="rrf").classify("word1"),
    ],
)
def test_a_question_that_cannot_be_answered_runs_no_model(
    tmp_path: Path, ask: Callable[[Index], object]
) -> None:
    encoder = WordEncoder()
    index = Index.create(tmp_path / "index", model=encoder)
    index.add([{"id": f"d{n}", "text": f"word{n}", "label": str(n % 2)} for n in range(6)])
    index.search("word1", layer=1)
    index.search("word1", layer=[1, 2])
    index.at(layer=[1, 2], fuse="rrf").search("word1")
    index.classify("word1", layer=1)
    encoder.encoded.clear()
    for _ in range(2):
        with pytest.raises(LayerdexError):
            ask(index)
    assert encoder.encoded == []


def test_what_info_returns_is_the_callers(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add([{"id": f"d{n}", "text": f"word{n}", "label": str(n % 2)} for n in range(6)])
    index.save_best(replace(index.evaluate(), best_layer=1))
    best = index.info().best_layer
    assert best is not None
    best["layer"] = 99
    assert index.search("word1")[0].target.layers == (1,)
    assert index.info().best_layer != best
