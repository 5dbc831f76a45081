"""Where windows end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layerdex.choices import LongText
from layerdex.indexer.text.windows import WindowFill, choose_window_bytes, split_windows
from layerdex.records import EncoderSettings
from tests.encoders import WordEncoder


def _settings(**changes: object) -> EncoderSettings:
    return replace(WordEncoder(window=4).settings, **changes)  # type: ignore[arg-type]


def _split(texts: list[str], **changes: object) -> list[list[str]]:
    return [list(window) for window in split_windows(texts, _settings(**changes))]


def test_a_window_ends_at_its_number_of_documents() -> None:
    texts = [str(n) for n in range(10)]
    assert _split(texts) == [texts[:4], texts[4:8], texts[8:]]
    assert _split([]) == []


def test_a_window_ends_with_the_text_that_reaches_its_bytes() -> None:
    texts = ["abc", "abc", "a", "abcdefg", "a"]
    assert _split(texts, window_bytes=7) == [texts[:3], texts[3:4], texts[4:]]


def test_bytes_are_those_of_utf8() -> None:
    assert _split(["ab", "cd", "ef"], window_bytes=4) == [["ab", "cd"], ["ef"]]
    assert _split(["äö", "cd", "ef"], window_bytes=4) == [["äö"], ["cd", "ef"]]


def test_a_truncated_text_counts_as_far_as_it_is_encoded() -> None:
    texts = ["a" * 1_000] * 4
    assert _split(texts, window_bytes=100, max_length=10) == [texts[:3], texts[3:]]
    chunked = _split(texts, window_bytes=100, max_length=10, long=LongText.CHUNK)
    assert chunked == [[text] for text in texts]


def test_an_index_without_the_bound_keeps_its_windows() -> None:
    texts = ["a" * 100_000] * 8
    assert _split(texts, window_bytes=None) == [texts[:4], texts[4:]]


def test_very_long_texts_end_a_window_in_any_index() -> None:
    texts = ["a" * 5_000_000] * 3
    assert _split(texts, window_bytes=None) == [texts[:2], texts[2:]]


def test_rejected_rows_are_rows_of_a_window() -> None:
    fill = WindowFill(_settings())
    assert [fill.add(text) for text in ("a", None, None, "b", "c")] == [0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("depth", "width", "token_budget", "n_tokens"),
    [
        (6, 384, 512, 58_868),  # MiniLM: ten seconds at 6,000 tokens a second
        (12, 768, 512, 16_384),  # BERT-base: 32 batches
        (12, 768, 65_536, 2_097_152),  # on a GPU, whose windows end at 4,096 documents
        (0, 32, 512, 50_862_630),
    ],
)
def test_the_bound_is_chosen_for_the_model_and_the_engine(
    depth: int, width: int, token_budget: int, n_tokens: int
) -> None:
    found = choose_window_bytes(depth=depth, width=width, token_budget=token_budget)
    assert found == 4 * n_tokens
