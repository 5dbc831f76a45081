"""The encoder of an open index is loaded once, whoever asks."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from layerdex import Index
from layerdex.index.open_index import OpenIndex, QueryVectors
from layerdex.records import Encoder
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
    assert list(vectors.at([1])) == [1]
    assert sorted(vectors.at([1, 3])) == [1, 3]
    vectors.at([3])
    assert encoder.encoded == ["word1", "word2"] * 2
