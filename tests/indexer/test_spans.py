"""Spans of texts: at every layer the mean of their tokens' states, as plain transformers has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from layerdex.choices import Dtype, EngineName, LongText
from layerdex.errors import OptionError
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.openvino.engine import is_installed
from layerdex.indexer.engines.protocol import Batch
from layerdex.indexer.engines.torch.packing import packed_spans
from layerdex.indexer.text.spans import CharacterSpan
from layerdex.options import EncoderOptions, RuntimeOptions
from layerdex.records import EncodedSpans
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.packed import load_model, make_replica, random_batch, vectors_of
from tests.indexer.plain import Floats, cosines, load_plain, plain_windows, vectors_of_ids
from tests.tiny_models import DEPTH, FAMILIES, N_POSITIONS, WIDTH, sentence

LAYERS = range(DEPTH + 1)
BOUNDS = {EngineName.TORCH: 1 - 1e-6, EngineName.OPENVINO: 0.99999}

TEXTS = [
    sentence(9, seed=1),
    "",
    "naïve 😀 (the cat) sat,on e\u0301tude 中文",
    "  battery \t died\n\nafter one week.  ",
    "a",
    sentence(25, seed=4),
]


def load(
    folder: Path,
    *,
    engine: EngineName = EngineName.TORCH,
    template: str | None = None,
    long: LongText | None = None,
    token_budget: int | None = None,
) -> TransformerEncoder:
    return TransformerEncoder(
        EncoderOptions(model=str(folder), template=template, long=long, max_length=N_POSITIONS),
        runtime=RuntimeOptions(engine=engine, device="cpu", dtype=Dtype.FLOAT32),
        token_budget=token_budget,
        pools_spans=True,
    )


def words_of(text: str) -> list[CharacterSpan]:
    """Return the words, each with its neighbor, and the whole text."""
    words = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
    pairs = [(first[0], second[1]) for first, second in pairwise(words)]
    return [*words, *pairs[::2], *([(0, len(text))] if text else [])]


def plain_span_vectors(
    folder: Path, texts: Sequence[str], spans: Sequence[Sequence[CharacterSpan]]
) -> tuple[list[int], Floats]:
    """Return which spans have a token, and their unit vectors, (depth + 1, n, width)."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = load_plain(folder)
    numbers: list[int] = []
    vectors = []
    number = -1
    for text, of_text in zip(texts, spans, strict=True):
        encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
        special = encoded["special_tokens_mask"]
        for start, stop in of_text:
            number += 1
            tokens = [
                at
                for at, (first, last) in enumerate(encoded["offset_mapping"])
                if not special[at] and first < stop and last > start
            ]
            if tokens:
                numbers.append(number)
                pooling = lambda states, at=tokens: states[at].mean(axis=0)  # noqa: E731
                vectors.append(vectors_of_ids(model, [encoded["input_ids"]], pooling)[:, 0])
    return numbers, np.stack(vectors, axis=1)


def engines() -> list[EngineName]:
    return [EngineName.TORCH, *([EngineName.OPENVINO] if is_installed() else [])]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("family", "engine"),
    [
        (family, engine)
        for engine in engines()
        for family in FAMILIES
        if engine is EngineName.TORCH or family != "modernbert"  # which OpenVINO cannot convert
    ],
)
def test_every_layer_equals_the_mean_of_the_tokens(
    family: str, engine: EngineName, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    spans = [words_of(text) for text in TEXTS]
    numbers, expected = plain_span_vectors(folder, TEXTS, spans)
    found = load(folder, engine=engine).encode_spans(TEXTS, spans, LAYERS)
    assert found.numbers.tolist() == numbers
    assert len(numbers) > 60
    assert not found.cut.any()
    assert cosines(found.vectors, expected).min() >= BOUNDS[engine]
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=2), 1, atol=1e-6)


def test_fewer_layers_are_the_same_layers(bert: Path) -> None:
    spans = [words_of(text) for text in TEXTS]
    encoder = load(bert)
    whole = encoder.encode_spans(TEXTS, spans, LAYERS)
    some = encoder.encode_spans(TEXTS, spans, [1, 3])
    np.testing.assert_array_equal(some.vectors, whole.vectors[[1, 3]])


@pytest.mark.parametrize("engine", engines())
def test_the_texts_of_a_batch_do_not_change_each_other(bert: Path, engine: EngineName) -> None:
    spans = [words_of(text) for text in TEXTS]
    encoder = load(bert, engine=engine)
    together = encoder.encode_spans(TEXTS, spans, LAYERS)
    alone = [
        encoder.encode_spans([text], [of_text], LAYERS).vectors
        for text, of_text in zip(TEXTS, spans, strict=True)
    ]
    assert cosines(together.vectors, np.concatenate(alone, axis=1)).min() >= 1 - 1e-6


def test_a_template_is_not_part_of_a_span(bert: Path) -> None:
    text, template = "the cat sat on the mat", "is this good or bad: {text} i love this"
    spans = words_of(text)
    prompt = template.replace("{text}", text)
    offset = prompt.index(text)
    shifted = [(start + offset, stop + offset) for start, stop in spans]
    _, expected = plain_span_vectors(bert, [prompt], [shifted])
    found = load(bert, template=template).encode_spans([text], [spans], LAYERS)
    assert cosines(found.vectors, expected).min() >= BOUNDS[EngineName.TORCH]


def test_a_span_without_a_token_has_no_vector(bert: Path) -> None:
    text = "the \u0007\u0007 cat"
    found = load(bert).encode_spans([text, ""], [[(0, 3), (4, 6), (7, 10)], []], LAYERS)
    assert found.numbers.tolist() == [0, 2]
    assert not found.cut.any()


def test_an_encoder_is_asked_for_what_it_pools(bert: Path) -> None:
    with pytest.raises(OptionError, match="ask it for spans"):
        load(bert).encode(["the cat"], LAYERS)
    whole = loaded.load(bert)
    with pytest.raises(OptionError, match="make one with pools_spans"):
        whole.encode_spans(["the cat"], [[(0, 3)]], LAYERS)


def test_nothing_to_encode(bert: Path) -> None:
    found = load(bert).encode_spans(["the cat", ""], [[], []], LAYERS)
    assert found.vectors.shape[:2] == (DEPTH + 1, 0)
    assert len(found.numbers) == len(found.cut) == 0
    assert load(bert).encode_spans([], [], LAYERS).n_tokens.tolist() == []


@pytest.mark.parametrize("template", [None, "this is {text} bad"])
def test_what_is_truncated_is_cut(bert: Path, template: str | None) -> None:
    text = sentence(100, seed=2)
    spans = words_of(text)
    found = load(bert, template=template).encode_spans([text], [spans], LAYERS)
    assert found.truncated.tolist() == [True]
    assert 0 < len(found.numbers) < len(spans)
    assert sorted([*found.numbers.tolist(), *np.flatnonzero(found.cut).tolist()]) == [
        *range(len(spans))
    ]
    last = max(spans[number][1] for number in found.numbers)
    assert all(spans[number][1] > last for number in np.flatnonzero(found.cut))
    # What is read has the vectors that it has in the kept part alone.
    kept = [spans[number] for number in found.numbers]
    alone = load(bert, template=template).encode_spans([text[:last]], [kept], LAYERS)
    assert cosines(found.vectors, alone.vectors).min() >= 1 - 1e-6


def encode_long(folder: Path, text: str, spans: list[CharacterSpan]) -> EncodedSpans:
    return load(folder, long=LongText.CHUNK).encode_spans([text], [spans], LAYERS)


def test_a_span_of_a_long_text_is_taken_from_the_chunk_with_most_around_it(bert: Path) -> None:
    text = sentence(130, seed=3)
    words = [match.span() for match in re.finditer(r"[a-z]+", text)]
    found = encode_long(bert, text, words)
    assert found.truncated.tolist() == [False]
    assert found.numbers.tolist() == [*range(len(words))]
    tokenizer = AutoTokenizer.from_pretrained(bert, local_files_only=True)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    model = load_plain(bert)
    windows, first = [], 0
    all_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    for window in plain_windows(tokenizer, text, max_length=N_POSITIONS):
        own = window.ids[1:-1]
        first = next(at for at in range(first, len(all_ids)) if all_ids[at : at + len(own)] == own)
        windows.append((window, first))
    assert len(windows) > 3
    for number, (start, stop) in enumerate(words):
        tokens = [i for i, (a, b) in enumerate(offsets) if a < stop and b > start]

        def margin(at: int, start: int = start, stop: int = stop) -> float:
            window, first = windows[at]
            begin, end = offsets[first][0], offsets[first + window.n_tokens - 1][1]
            if not begin <= start < stop <= end:
                return -1
            before = np.inf if at == 0 else start - begin
            return min(before, np.inf if at == len(windows) - 1 else end - stop)

        best = max(map(margin, range(len(windows))))
        vectors = []
        for at, (window, first) in enumerate(windows):
            # The end of a chunk may count the blank behind it, so that two are equally good.
            if margin(at) >= best - 1:
                own = [1 + token - first for token in tokens]
                pooling = lambda states, at=own: states[at].mean(axis=0)  # noqa: E731
                vectors.append(vectors_of_ids(model, [window.ids], pooling))
        closest = max(cosines(found.vectors[:, number], one[:, 0]).min() for one in vectors)
        assert closest >= BOUNDS[EngineName.TORCH], (number, start)


def test_a_span_longer_than_every_chunk_is_cut(bert: Path) -> None:
    text = sentence(130, seed=3)
    found = encode_long(bert, text, [(0, len(text)), (0, 3)])
    assert found.cut.tolist() == [True, False]
    assert found.numbers.tolist() == [1]


def test_texts_that_fit_are_the_same_in_both_modes(bert: Path) -> None:
    spans = [words_of(text) for text in TEXTS]
    cut = load(bert).encode_spans(TEXTS, spans, LAYERS)
    chunked = load(bert, long=LongText.CHUNK).encode_spans(TEXTS, spans, LAYERS)
    assert cut.vectors.tobytes() == chunked.vectors.tobytes()


def test_halves_of_a_batch_keep_the_numbers_of_its_spans() -> None:
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
    spans = np.array([[[0, 1], [1, 3]], [[2, 4], [0, 0]], [[0, 0], [0, 0]]])
    batch = Batch(np.array([7, 8, 3]), mask * 5, mask, spans=spans)
    left, right = batch.halves()
    assert left.indices.tolist() == [7, 8, 3]
    assert right.indices.tolist() == []
    assert right.ids.shape == (1, 2)
    first, second = left.halves()
    assert (first.indices.tolist(), second.indices.tolist()) == ([7, 8], [3])
    assert first.ids.shape == (1, 3)


def test_spans_of_packed_texts() -> None:
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    spans = np.array([[[0, 1], [1, 3], [0, 0]], [[2, 4], [1, 2], [0, 4]]])
    tokens, offsets = packed_spans(spans, mask)
    parts = np.split(tokens, offsets[1:-1])
    assert [part.tolist() for part in parts] == [[0], [1, 2], [5, 6], [4], [3, 4, 5, 6]]


def test_packed_texts_have_the_vectors_of_padded_ones(bert: Path) -> None:
    model = load_model(bert)
    batch = random_batch([N_POSITIONS, 1, 17, 2, 9])
    lengths = batch.mask.sum(axis=1)
    rng = np.random.default_rng(0)
    starts = rng.integers(0, lengths[:, None], size=(5, 6))
    stops = starts + rng.integers(0, lengths[:, None] - starts + 1)  # some are empty
    spans = np.stack([starts, stops], axis=2)
    kept = int((starts < stops).sum())
    batch = replace(batch, indices=np.arange(kept), mask_positions=None, spans=spans)
    padded = vectors_of(make_replica(model, packs=False), batch)
    packed = vectors_of(make_replica(model, packs=True), batch)
    assert padded.shape == (DEPTH + 1, kept, WIDTH)
    assert cosines(packed, padded).min() >= 1 - 1e-6
