from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from layerdex.errors import ModelError
from layerdex.indexer.models.transformer_settings import (
    TransformerSettings,
    read_transformer_settings,
)

NAMES = ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"]


def read(folder: Path, settings: Any, *, name: str = "bert") -> TransformerSettings:
    (folder / f"sentence_{name}_config.json").write_text(json.dumps(settings))
    return read_transformer_settings(folder)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_of_the_file_is_known(name: str, tmp_path: Path) -> None:
    found = read(tmp_path, {"max_seq_length": 24, "do_lower_case": True}, name=name)

    assert found == TransformerSettings(max_length=24, lowercases=True, ignored=())


def test_the_first_file_that_says_something_counts(tmp_path: Path) -> None:
    read(tmp_path, {"max_seq_length": 3}, name="xlnet")
    assert read(tmp_path, {}, name="bert").max_length == 3
    assert read(tmp_path, {"max_seq_length": 2}, name="roberta").max_length == 2


@pytest.mark.parametrize(
    ("length", "expected"),
    [(None, None), (12, 12), (12.0, 12), (10**30, None), (1e30, None), (float("inf"), None)],
)
def test_a_length_that_is_no_limit_is_none(
    length: float | None, expected: int | None, tmp_path: Path
) -> None:
    assert read(tmp_path, {"max_seq_length": length}).max_length == expected


@pytest.mark.parametrize("length", [0, -1, "12", True, [12], float("nan")])
def test_a_length_that_is_no_number_of_tokens_is_a_model_error(length: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a number of tokens"):
        read(tmp_path, {"max_seq_length": length})


@pytest.mark.parametrize("value", ["true", 2, []])
def test_a_setting_of_the_case_is_true_or_false(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"do_lower_case is .* not true or false"):
        read(tmp_path, {"do_lower_case": value})


BERT: dict[str, Any] = {"type": "BertNormalizer", "lowercase": True}
LOWER = {"type": "Lowercase"}


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        (None, True),
        (BERT | {"lowercase": False}, True),
        ({"type": "NFC"}, True),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}, True),
        (BERT, False),
        (LOWER, False),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}, LOWER]}, False),
    ],
)
def test_a_tokenizer_that_lowers_texts_itself_is_left_alone(
    normalizer: Any, expected: bool, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"normalizer": normalizer}))

    assert read(tmp_path, {"do_lower_case": True}).lowercases is expected


PLAIN = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
    "unpad_inputs": False,
    "query_length": None,
    "model_args": {"attn_implementation": "eager"},
    "processor_kwargs": {"model_max_length": 9},
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (PLAIN, ()),
        (PLAIN | {"query_length": 32}, ("query_length",)),
        (PLAIN | {"transformer_task": "fill-mask"}, ("transformer_task",)),
        ({"processing_kwargs": {"text": {"max_length": 9}}}, ("processing_kwargs",)),
        ({"tokenizer_args": {"add_prefix_space": True}}, ("tokenizer_args.add_prefix_space",)),
        ({"config_args": {"num_hidden_layers": 2}}, ("config_args.num_hidden_layers",)),
        ({"tokenizer_name_or_path": "other"}, ("tokenizer_name_or_path",)),
        ({"surprise": 1}, ("surprise",)),
    ],
)
def test_settings_that_are_not_applied_are_named(
    settings: dict[str, Any], expected: tuple[str, ...], tmp_path: Path
) -> None:
    assert read(tmp_path, settings).ignored == expected
