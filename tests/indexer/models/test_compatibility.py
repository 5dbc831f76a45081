from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex.choices import LongText, Pooling, StoredPrecision
from layerdex.errors import IndexMismatchError, ModelError
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.models.compatibility import (
    check_fingerprint,
    check_options,
    same_model,
)
from layerdex.indexer.models.fingerprint import earlier_fingerprint, fingerprint, read_contents
from layerdex.options import EncoderOptions
from layerdex.records import EncoderSettings
from tests.encoders import WordEncoder
from tests.indexer.loaded import TORCH, load
from tests.sentence_models import to_sentence_model
from tests.tiny_models import change_json

RECORDED = WordEncoder().settings
OTHER = replace(RECORDED, fingerprint="other")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooling": Pooling.CLS}, "pooling 'mean', not 'cls'"),
        ({"template": "q: {text}"}, "template '{text}', not 'q: {text}'"),
        ({"max_length": 9}, "max length '12', not '9'"),
        ({"long": LongText.CHUNK}, "long 'truncate', not 'chunk'"),
        (
            {"max_length": 9, "pooling": Pooling.MAX},
            "pooling 'mean', not 'max' and max length '12', not '9'",
        ),
    ],
)
def test_settings_that_differ_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(IndexMismatchError) as caught:
        check_fingerprint(replace(OTHER, **changes), RECORDED)

    assert str(caught.value).startswith(f"this index was made with {said}: ")
    assert "version" not in str(caught.value)


def test_without_such_a_difference_it_is_the_model() -> None:
    with pytest.raises(IndexMismatchError, match=r"another version of .*words.* now has other"):
        check_fingerprint(OTHER, RECORDED)


def make_adapter(folder: Path, weights: bytes) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def check(recorded: EncoderSettings, **options: Any) -> None:
    check_options(recorded, (0,), StoredPrecision.FLOAT16, EncoderOptions(**options))


def test_another_adapter_is_refused_and_the_same_may_move(bert: Path, tmp_path: Path) -> None:
    made, moved, other = (
        make_adapter(tmp_path / name, weights)
        for name, weights in (("made", b"1"), ("moved", b"1"), ("other", b"2"))
    )
    found = fingerprint(read_contents(bert).with_adapter(made), RECORDED.options())
    recorded = replace(RECORDED, model=str(bert), adapter=str(made), fingerprint=found)
    check(recorded, adapter=str(made))
    check(recorded, adapter=str(moved))
    said = f"made with adapter '{made}', not '{other}': leave the option out, or make a new index"
    with pytest.raises(IndexMismatchError, match=re.escape(said)):
        check(recorded, adapter=str(other))
    with pytest.raises(ModelError, match=r"is not an adapter: .*adapter_config"):
        check(recorded, adapter=str(tmp_path))
    with pytest.raises(IndexMismatchError, match="with adapter 'none', not 'any'"):
        check(RECORDED, adapter="any")

    # Both have moved.
    shutil.rmtree(made)
    here = str(bert.rename(tmp_path / "here"))
    check(recorded, model=here, adapter=str(moved))
    with pytest.raises(IndexMismatchError, match="with adapter"):
        check(recorded, model=here, adapter=str(other))


def test_what_decides_no_vector_may_differ() -> None:
    check_fingerprint(replace(RECORDED, model="moved", token_budget=1, window=2), RECORDED)


@pytest.fixture
def lowering(bert: Path) -> Path:
    """A model whose texts are lowered, and whose tokenizer would keep their case."""
    change_json(bert / "tokenizer.json", normalizer=None)
    change_json(bert / "sentence_bert_config.json", do_lower_case=True)
    return bert


def made_before(folder: Path) -> EncoderSettings:
    """The settings of an index that was made when ``do_lower_case`` was not read."""
    settings = load(folder).settings
    earlier = earlier_fingerprint(read_contents(folder), settings.options())
    return replace(settings, fingerprint=earlier)


def test_an_index_of_texts_in_their_own_case_is_never_mixed_with_lowered_ones(
    lowering: Path, tmp_path: Path
) -> None:
    stored = made_before(lowering)

    with pytest.raises(IndexMismatchError) as caught:
        TransformerEncoder.for_index(stored, runtime=TORCH)
    assert "do_lower_case" in str(caught.value)
    assert "make a new index" in str(caught.value)
    moved = Path(shutil.copytree(lowering, tmp_path / "moved"))
    assert same_model(stored, str(moved)) == stored.model
    with pytest.raises(IndexMismatchError, match="do_lower_case"):
        TransformerEncoder.for_index(stored, runtime=TORCH, model=str(moved))

    # The other way out, which the message names.
    change_json(moved / "sentence_bert_config.json", do_lower_case=False)
    going_on = TransformerEncoder.for_index(stored, runtime=TORCH, model=str(moved))
    upper, lower = going_on.encode(["THE CAT", "the cat"], [-1]).vectors[0]
    assert not np.allclose(upper, lower)


def test_an_index_of_lowered_texts_goes_on(lowering: Path) -> None:
    stored = load(lowering).settings

    assert TransformerEncoder.for_index(stored, runtime=TORCH).settings == stored


def test_an_index_made_before_prompts_were_read_keeps_its_template(bert: Path) -> None:
    stored = load(bert).settings
    to_sentence_model(
        bert,
        settings={"max_seq_length": 9},
        pooling={"pooling_mode": ["cls"]},
        config={"prompts": {"query": "ask "}, "default_prompt_name": "query"},
    )

    assert load(bert).settings.template == "ask {text}"
    assert TransformerEncoder.for_index(stored, runtime=TORCH).settings == stored
    check(stored, model=str(bert))
