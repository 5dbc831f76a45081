from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerdex import Index
from layerdex.choices import Dtype, LongText, Pooling
from layerdex.errors import IndexMismatchError, LayerError, ModelError, OptionError
from layerdex.indexer import progress
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.devices import CPU_TOKEN_BUDGET
from layerdex.indexer.engines.torch import hidden_states
from layerdex.indexer.models.compatibility import check_options
from layerdex.indexer.text.tokenizer import TextTokenizer, Tokens
from layerdex.options import EncoderOptions
from layerdex.records import Encoded
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.loaded import load
from tests.indexer.plain import calls_of, cosines, plain_vectors, torch_engine
from tests.results import first
from tests.storage.stored import read_live
from tests.tiny_models import DEPTH, FAMILIES, N_POSITIONS, WIDTH, save_tiny_model, sentence

LAYERS = range(DEPTH + 1)
# Rounding a unit vector to float16 costs some 3e-8; the rest is for the order of float32 sums.
FLOAT32_BOUND = 1 - 1e-6
BFLOAT16_BOUND = 0.999

TEXTS = [
    sentence(9, seed=1),
    "",
    sentence(70, seed=2),
    "a",
    sentence(N_POSITIONS - 4, seed=3),
    "naïve 😀 {text} [x] <y> 中文",
    "  battery \t died\n\nafter one week.  ",
    sentence(25, seed=4),
]


def assert_same(left: Encoded, right: Encoded) -> None:
    assert left.vectors.tobytes() == right.vectors.tobytes()
    np.testing.assert_array_equal(left.n_tokens, right.n_tokens)
    np.testing.assert_array_equal(left.truncated, right.truncated)


def test_a_model_folder_may_move_but_not_change(bert: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=str(bert), runtime=loaded.TORCH)
    index.add([{"id": "a", "text": "the cat sat"}])
    moved = bert.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="if it has moved, name its folder with --model"):
        first(Index.open(index.path, runtime=loaded.TORCH).search("the cat"))
    again = Index.open(index.path, model=str(moved), runtime=loaded.TORCH)
    [hit] = first(again.search("the cat sat"))
    assert (hit.id, hit.similarity) == ("a", 1.0)
    stored = (index.settings, index.layers, index.info().precision)
    check_options(*stored, EncoderOptions(model=str(moved)))
    other = save_tiny_model("bert", tmp_path / "other", seed=1)
    with pytest.raises(IndexMismatchError, match=r"made with model .*bert', not .*other'"):
        check_options(*stored, EncoderOptions(model=str(other)))
    with pytest.raises(IndexMismatchError, match="another version of the model"):
        first(Index.open(index.path, model=str(other), runtime=loaded.TORCH).search("the cat"))


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLS, Pooling.MAX])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_equals_pooled_hidden_states(
    family: str, pooling: Pooling, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    expected = plain_vectors(folder, TEXTS, pooling=pooling.value, max_length=N_POSITIONS)

    encoder = load(folder, pooling=pooling)
    encoded = encoder.encode(TEXTS, LAYERS)

    assert (encoder.settings.depth, encoder.settings.width) == (DEPTH, WIDTH)
    assert torch_engine(encoder)._replicas[0].states.is_hooked
    assert encoded.vectors.shape == (DEPTH + 1, len(TEXTS), WIDTH)
    assert encoded.vectors.dtype == np.float32
    assert cosines(encoded.vectors, expected).min() >= FLOAT32_BOUND
    lengths = np.linalg.norm(encoded.vectors.astype(np.float64), axis=2)
    np.testing.assert_allclose(lengths, 1, atol=5e-4)
    # Layers differ by far more than the bound, or this test could not report them apart.
    assert cosines(expected[1:], expected[:-1]).max() < 0.995


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_stays_within_the_stated_tolerance(family: str, tiny_model: TinyModel) -> None:
    folder = tiny_model(family)
    expected = plain_vectors(folder, TEXTS, max_length=N_POSITIONS)

    encoder = load(folder, dtype=Dtype.BFLOAT16)

    assert encoder.engine.dtype is Dtype.BFLOAT16
    found = encoder.encode(TEXTS, LAYERS).vectors
    assert BFLOAT16_BOUND <= cosines(found, expected).min() < FLOAT32_BOUND


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_has_the_same_vector_alone_and_among_others(
    family: str, tiny_model: TinyModel
) -> None:
    # One batch holds all: lengths from 2 to 40 tokens, so most of it is padding.
    encoder = load(tiny_model(family), token_budget=100_000)

    with calls_of(FAMILIES[family].block) as calls:
        together = encoder.encode(TEXTS, LAYERS).vectors
    assert calls == [(len(TEXTS), N_POSITIONS, WIDTH)] * DEPTH

    for i, text in enumerate(TEXTS):
        alone = encoder.encode([text], LAYERS).vectors[:, 0]
        assert cosines(together[:, i], alone).min() >= FLOAT32_BOUND, text


@pytest.mark.parametrize("layers", [(0,), (-1,), (1, 3), (2,), (0, DEPTH)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_subset_of_layers_gives_the_same_vectors_with_fewer_blocks(
    family: str, layers: tuple[int, ...], tiny_model: TinyModel
) -> None:
    encoder = load(tiny_model(family), token_budget=100_000)
    every = encoder.encode(TEXTS, LAYERS).vectors

    with calls_of(FAMILIES[family].block) as calls:
        some = encoder.encode(TEXTS, layers).vectors

    np.testing.assert_array_equal(some, every[list(layers)])
    assert len(calls) == max(layer % (DEPTH + 1) for layer in layers)


def test_layers_come_back_ascending_and_missing_ones_are_refused(tiny_model: TinyModel) -> None:
    encoder = load(tiny_model("bert"))

    assert_same(encoder.encode(TEXTS, [3, 0, 3]), encoder.encode(TEXTS, [0, 3]))
    with pytest.raises(LayerError, match=f"layers 0 to {DEPTH}"):
        encoder.encode(TEXTS, [DEPTH + 1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_whose_blocks_are_unknown_gives_the_same_vectors(
    family: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(family)
    hooked = load(folder).encode(TEXTS, [0, 2, DEPTH])
    monkeypatch.setattr(hidden_states, "find_blocks", lambda _model: [])

    encoder = load(folder)

    assert not torch_engine(encoder)._replicas[0].states.is_hooked
    assert_same(encoder.encode(TEXTS, [0, 2, DEPTH]), hooked)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_of_exactly_the_models_maximum_is_encoded_whole(
    family: str, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    encoder = load(folder)
    assert encoder.settings.max_length == N_POSITIONS
    # Two special tokens, "the", and one token more each.
    texts = [f"the{' a' * n}" for n in range(N_POSITIONS - 5, N_POSITIONS)]

    encoded = encoder.encode(texts, [-1])

    assert encoded.n_tokens.tolist() == [38, 39, 40, 40, 40]
    assert encoded.truncated.tolist() == [False, False, False, True, True]
    expected = plain_vectors(folder, texts, max_length=N_POSITIONS)
    assert cosines(encoded.vectors[0], expected[-1]).min() >= FLOAT32_BOUND


def test_identical_texts_go_through_the_model_once(tiny_model: TinyModel) -> None:
    encoder = load(tiny_model("bert"))
    repeated = [TEXTS[0], TEXTS[3], TEXTS[0], TEXTS[0], TEXTS[3], TEXTS[7]]

    with calls_of("BertEmbeddings") as calls:
        encoded = encoder.encode(repeated, LAYERS)

    assert sum(n for n, _ in calls) == 3
    once = encoder.encode([TEXTS[0], TEXTS[3], TEXTS[7]], LAYERS)
    place = [0, 1, 0, 0, 1, 2]
    np.testing.assert_array_equal(encoded.vectors, once.vectors[:, place])
    np.testing.assert_array_equal(encoded.n_tokens, once.n_tokens[place])


@pytest.mark.parametrize("token_budget", [1, 64, 100_000])
def test_order_is_kept_whatever_the_batches(token_budget: int, tiny_model: TinyModel) -> None:
    folder = tiny_model("roberta")
    texts = [sentence(n, seed=n) for n in (30, 2, 17, 50, 9, 1, 33, 12)]
    expected = plain_vectors(folder, texts, max_length=N_POSITIONS)

    found = load(folder, token_budget=token_budget).encode(texts, LAYERS).vectors

    similar = np.einsum("lnw,lmw->lnm", found.astype(np.float64), expected)
    assert (similar.argmax(axis=2) == np.arange(len(texts))).all()
    assert cosines(found, expected).min() >= FLOAT32_BOUND


@pytest.mark.parametrize("dtype", [Dtype.FLOAT32, Dtype.BFLOAT16])
def test_two_runs_give_identical_bytes(dtype: Dtype, tiny_model: TinyModel) -> None:
    texts = [sentence(1 + i % 37, seed=i) for i in range(100)]
    folder = tiny_model("bert")
    first = load(folder, dtype=dtype)

    assert_same(first.encode(texts, LAYERS), first.encode(texts, LAYERS))
    assert_same(first.encode(texts, LAYERS), load(folder, dtype=dtype).encode(texts, LAYERS))


def test_no_texts_give_empty_arrays(tiny_model: TinyModel) -> None:
    encoded = load(tiny_model("bert")).encode([], [0, 2])

    assert encoded.vectors.shape == (2, 0, WIDTH)
    assert encoded.vectors.dtype == np.float32
    assert encoded.n_tokens.shape == encoded.truncated.shape == (0,)


def test_settings_say_what_was_chosen(tiny_model: TinyModel) -> None:
    folder = tiny_model("bert")

    settings = load(folder, pooling=Pooling.MAX, template="q: {text}", max_length=20).settings

    assert settings.model == str(folder)
    assert settings.pooling is Pooling.MAX
    assert (settings.template, settings.max_length) == ("q: {text}", 20)
    assert (settings.token_budget, settings.window) == (CPU_TOKEN_BUDGET, 4_096)
    assert load(folder).settings.pooling is Pooling.MEAN


@pytest.mark.parametrize("wanted", [N_POSITIONS + 1, 0, -3])
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_an_impossible_maximum_length_is_refused(
    family: str, wanted: int, tiny_model: TinyModel
) -> None:
    with pytest.raises(OptionError, match=rf"between 1 and {N_POSITIONS}|at least 1.*{wanted}"):
        load(tiny_model(family), max_length=wanted)


def test_the_default_maximum_length_is_512_where_the_model_takes_more(tmp_path: Path) -> None:
    folder = save_tiny_model("modernbert", tmp_path, max_position_embeddings=2_048)

    assert load(folder).settings.max_length == 512
    assert load(folder, max_length=1_500).settings.max_length == 1_500


@pytest.mark.parametrize("n_positions", [600, 602])
def test_the_maximum_length_counts_robertas_padding_offset(
    n_positions: int, tmp_path: Path
) -> None:
    folder = save_tiny_model("roberta", tmp_path, max_position_embeddings=n_positions)
    limit = n_positions - 2

    with pytest.raises(OptionError, match=f"between 1 and {limit}"):
        load(folder, max_length=limit + 1)
    encoded = load(folder, max_length=limit).encode([sentence(700, seed=1)], [-1])
    assert encoded.n_tokens.tolist() == [limit]
    assert encoded.truncated.all()


def test_an_index_gets_its_encoder_back(tiny_model: TinyModel) -> None:
    first = load(tiny_model("mpnet"), pooling=Pooling.CLS, template="q: {text}", max_length=20)

    again = TransformerEncoder.for_index(first.settings, runtime=loaded.TORCH)

    assert again.settings == first.settings
    assert_same(again.encode(TEXTS, LAYERS), first.encode(TEXTS, LAYERS))


def test_an_index_made_with_other_weights_is_a_mismatch(tmp_path: Path) -> None:
    recorded = load(save_tiny_model("bert", tmp_path, seed=1)).settings
    found = load(save_tiny_model("bert", tmp_path, seed=2)).settings

    with pytest.raises(IndexMismatchError) as caught:
        TransformerEncoder.for_index(recorded, runtime=loaded.TORCH)

    assert recorded.fingerprint != found.fingerprint
    assert recorded.fingerprint in str(caught.value)
    assert found.fingerprint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_fingerprint_does_not_depend_on_where_and_how_it_runs(tiny_model: TinyModel) -> None:
    folder = tiny_model("bert")
    fast = dataclasses.replace(
        load(folder, dtype=Dtype.BFLOAT16, token_budget=7).settings,
        token_budget=CPU_TOKEN_BUDGET,
    )

    assert fast == load(folder).settings


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_in_bfloat16_agrees_with_the_cpu(family: str, tiny_model: TinyModel) -> None:
    folder = tiny_model(family)
    texts: Sequence[str] = [*TEXTS, *(sentence(1 + i % 50, seed=i) for i in range(300))]
    expected = plain_vectors(folder, texts, max_length=N_POSITIONS)

    encoder = load(folder, device="cuda", dtype=Dtype.BFLOAT16)

    assert cosines(encoder.encode(texts, LAYERS).vectors, expected).min() >= BFLOAT16_BOUND


@pytest.mark.parametrize(
    ("recorded", "used"),
    [
        (CPU_TOKEN_BUDGET, CPU_TOKEN_BUDGET),
        (CPU_TOKEN_BUDGET // 16, CPU_TOKEN_BUDGET // 16),
        (CPU_TOKEN_BUDGET * 16, CPU_TOKEN_BUDGET * 16),
        (CPU_TOKEN_BUDGET * 128, CPU_TOKEN_BUDGET),
        (8, CPU_TOKEN_BUDGET),
    ],
)
def test_a_budget_for_another_kind_of_device_is_not_used(
    recorded: int, used: int, tiny_model: TinyModel
) -> None:
    settings = load(tiny_model("bert"), token_budget=recorded).settings

    encoder = TransformerEncoder.for_index(settings, runtime=loaded.TORCH)

    assert encoder.settings.token_budget == recorded
    assert encoder._token_budget == used


@pytest.mark.parametrize("long", LongText)
def test_progress_rises_to_all_texts_and_changes_no_byte(
    long: LongText, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_INTERVAL_S", 0)
    encoder = load(tiny_model("bert"), long=long, token_budget=64)
    texts = [sentence(1 + i % 150, seed=i % 100) for i in range(150)]
    reported: list[int] = []

    followed = encoder.encode(texts, LAYERS, on_progress=reported.append)

    assert_same(followed, encoder.encode(texts, LAYERS))
    assert reported == sorted(reported)
    assert (reported[0], reported[-1]) == (0, 150)
    assert np.diff([0, *reported]).max() <= 15


def test_an_error_of_progress_ends_even_a_single_long_text(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_INTERVAL_S", 0)
    encoder = load(tiny_model("bert"), long=LongText.CHUNK, token_budget=64)
    reported: list[int] = []

    def stop(n_done: int) -> None:
        reported.append(n_done)
        if len(reported) == 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        encoder.encode([sentence(5_000, seed=1)], LAYERS, on_progress=stop)
    assert reported == [0] * 10
    encoder.encode(["a"], LAYERS)


def test_progress_is_told_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(np.arange(0, 1_000, 0.1))  # each look at the clock is a tenth of a second later
    monkeypatch.setattr("layerdex.indexer.progress.monotonic", lambda: next(now))
    reported: list[float] = []
    report = progress.report_texts(1_000, reported.append)
    for i in range(100):
        report(i / 99)
    assert len(reported) == 33


def test_texts_are_tokenised_during_the_forward_pass_of_others(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny_model("bert"))
    expected = encoder.encode(TEXTS, LAYERS)
    tokenize, is_tokenised = TextTokenizer.tokenize, threading.Event()

    def noticed(self: TextTokenizer, texts: Sequence[str]) -> Tokens:
        tokens = tokenize(self, texts)
        is_tokenised.set()
        return tokens

    monkeypatch.setattr(TextTokenizer, "tokenize", noticed)
    found: list[Encoded] = []
    other = threading.Thread(target=lambda: found.append(encoder.encode(TEXTS, LAYERS)))

    with encoder._lock.hold():  # as a forward pass does
        other.start()
        assert is_tokenised.wait(20)
        assert not found
    other.join(20)

    assert_same(found[0], expected)


@pytest.mark.parametrize("long", LongText)
def test_prefetched_windows_have_the_bytes_of_windows_one_by_one(
    long: LongText, tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny_model("bert"), long=long, window=32)
    texts = [sentence(1 + i % 90, seed=i) for i in range(200)]
    index = Index.create(tmp_path / "index", model=encoder, precision="float32")

    encode, threads = TransformerEncoder.encode, set[int]()

    def watched(*arguments: Any, **options: Any) -> Encoded:
        threads.add(threading.get_ident())
        return encode(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(TransformerEncoder, "encode", watched)
        index.add([{"id": str(i), "text": text} for i, text in enumerate(texts)])

    assert threads
    assert threading.get_ident() not in threads
    live = read_live(index.path)
    windows = [encoder.encode(texts[i : i + 32], LAYERS).vectors for i in range(0, 200, 32)]
    for i, vectors in enumerate(np.concatenate(windows, axis=1).swapaxes(0, 1)):
        expected = {layer: vectors[layer].tobytes() for layer in LAYERS}
        assert live[str(i)].vectors == expected, texts[i]


def test_progress_that_asks_its_encoder_is_an_error_and_no_deadlock(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_INTERVAL_S", 0)
    encoder = load(tiny_model("bert"))

    def query(_: int) -> None:
        encoder.encode(["a"], LAYERS)

    with pytest.raises(OptionError, match="on_progress must not call the encoder"):
        encoder.encode(TEXTS, LAYERS, on_progress=query)
    assert encoder.encode(["a"], LAYERS).n_tokens.tolist() == [3]
