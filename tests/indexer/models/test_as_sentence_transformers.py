"""A model folder gives the vectors that sentence-transformers itself computes from its files."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.choices import EngineName
from layerdex.indexer.engines.openvino.engine import is_installed
from tests.indexer.conftest import TinyModel
from tests.indexer.loaded import load
from tests.indexer.plain import cosines
from tests.sentence_models import to_sentence_model
from tests.tiny_models import change_json, sentence

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that it imports
    sentence_transformers = pytest.importorskip("sentence_transformers")

TEXTS = ["Refund Please", "refund please", "THE CAT [MASK] SAT", sentence(60, seed=4), "a"]


def expected_vectors(folder: Path, *, n_modules: int | None = None) -> NDArray[Any]:
    """Encode by sentence-transformers, with the first modules alone if ``n_modules`` is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sentence_transformers.SentenceTransformer(
            str(folder), device="cpu", local_files_only=True
        )
        if n_modules is not None:
            model = sentence_transformers.SentenceTransformer(
                modules=list(model)[:n_modules],
                device="cpu",
                prompts=model.prompts,
                default_prompt_name=model.default_prompt_name,
            )
        vectors: NDArray[Any] = model.encode(TEXTS, show_progress_bar=False)
    return vectors


def cased(folder: Path) -> Path:
    """Let the tokenizer keep the case of texts; the models know no capital letter."""
    change_json(folder / "tokenizer.json", normalizer=None)
    return folder


OLD_CLS = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}
NEW = {"embedding_dimension": 32, "include_prompt": True}
PROMPTS = {"prompts": {"query": "Query: ", "document": "the text "}}

FILES: dict[str, dict[str, Any]] = {
    "mean": {},
    "cls, as a flag": {"pooling": OLD_CLS},
    "cls, as a name": {"pooling": NEW | {"pooling_mode": "cls"}},
    "cls, in a list": {"pooling": NEW | {"pooling_mode": ["cls"]}},
    "max, in a list": {"pooling": NEW | {"pooling_mode": ["max"]}},
    "root of the length": {"pooling": NEW | {"pooling_mode": ["mean_sqrt_len_tokens"]}},
    "a name beside old flags": {"pooling": OLD_CLS | {"pooling_mode": "max"}},
    "no mode": {"pooling": {"word_embedding_dimension": 32, "pooling_mode_cls_token": False}},
    "normalized": {"others": ["Normalize"]},
    "a length": {"settings": {"max_seq_length": 9}},
    "a length of the tokenizer": {
        "settings": {"max_seq_length": 20, "tokenizer_args": {"model_max_length": 9}}
    },
    "a length in an older file": {
        "settings": {"max_seq_length": 9},
        "settings_file": "sentence_xlm-roberta_config.json",
    },
    "lowered": {"settings": {"do_lower_case": True}},
    "lowered, in an older file": {
        "settings": {"do_lower_case": True},
        "settings_file": "sentence_albert_config.json",
    },
    "not lowered": {"settings": {"do_lower_case": False}},
    "a subfolder": {"place": "0_Transformer", "settings": {"max_seq_length": 9}},
    "a default prompt": {"config": PROMPTS | {"default_prompt_name": "query"}},
    "an empty default prompt": {"config": {"default_prompt_name": "document"}},
    "prompts without a default": {"config": PROMPTS},
    "all of it": {
        "place": "0_Transformer",
        "settings": {"max_seq_length": 9, "do_lower_case": True},
        "pooling": NEW | {"pooling_mode": ["cls"]},
        "others": ["Normalize"],
        "config": PROMPTS | {"default_prompt_name": "query", "similarity_fn_name": "dot"},
    },
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("keep_case", [cased, Path], ids=["cased", "uncased"])
@pytest.mark.parametrize("kind", FILES)
def test_the_deepest_layer_is_what_sentence_transformers_gives(
    kind: str, keep_case: Callable[[Path], Path], bert: Path
) -> None:
    to_sentence_model(keep_case(bert), **FILES[kind])

    found = load(bert).encode(TEXTS, [-1]).vectors[0]

    assert cosines(found, expected_vectors(bert)).min() > 0.9999


def test_a_folder_without_such_files_is_read_alike(bert: Path) -> None:
    found = load(bert).encode(TEXTS, [-1]).vectors[0]

    assert cosines(found, expected_vectors(bert)).min() > 0.9999


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "modernbert"])
def test_other_tokenizers_lower_texts_too(
    family: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model(family), tmp_path / family))
    kept = load(folder).encode(TEXTS, [-1]).vectors[0]
    to_sentence_model(
        folder,
        settings={"do_lower_case": True, "max_seq_length": 20},
        config=PROMPTS | {"default_prompt_name": "query"},
    )

    encoder = load(folder)
    found = encoder.encode(TEXTS, [-1]).vectors[0]

    assert cosines(found, expected_vectors(folder)).min() > 0.9999
    np.testing.assert_array_equal(found[0], found[1])
    assert encoder.settings.template == "Query: {text}"
    assert not np.allclose(kept[0], kept[1])


@pytest.mark.parametrize(
    "settings", [None, {}, {"max_seq_length": None}, {"max_seq_length": 30}, {"max_seq_length": 8}]
)
def test_the_file_of_settings_comes_before_the_tokenizers_limit(
    settings: dict[str, Any] | None, bert: Path
) -> None:
    change_json(bert / "tokenizer_config.json", model_max_length=12)
    to_sentence_model(bert, settings=settings)

    found = load(bert).encode(TEXTS, [-1]).vectors[0]

    assert cosines(found, expected_vectors(bert)).min() > 0.9999


@pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
def test_openvino_lowers_texts_too(bert: Path) -> None:
    to_sentence_model(cased(bert), settings={"do_lower_case": True})

    encoder = load(bert, engine=EngineName.OPENVINO)

    assert cosines(encoder.encode(TEXTS, [-1]).vectors[0], expected_vectors(bert)).min() > 0.9999


def test_modules_after_pooling_are_left_out(bert: Path, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer import modules

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chain = [
            modules.Transformer(str(bert)),
            modules.Pooling(32, "cls"),
            modules.Dense(32, 16),
            modules.LayerNorm(16),
        ]
        folder = tmp_path / "dense"
        sentence_transformers.SentenceTransformer(modules=chain, device="cpu").save(str(folder))

    encoder = load(folder)
    found = encoder.encode(TEXTS, [-1]).vectors[0]

    assert cosines(found, expected_vectors(folder, n_modules=2)).min() > 0.9999
    assert expected_vectors(folder).shape[1] == 16
    assert any("modules Dense, LayerNorm are not applied" in note for note in encoder.notes())
