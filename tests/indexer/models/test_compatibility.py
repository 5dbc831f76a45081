from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layerdex.choices import LongText, Pooling, StoredPrecision
from layerdex.errors import IndexMismatchError, ModelError
from layerdex.indexer.models.compatibility import check_fingerprint, check_options
from layerdex.indexer.models.fingerprint import fingerprint
from layerdex.options import EncoderOptions
from layerdex.records import EncoderSettings
from tests.encoders import WordEncoder

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
    found = fingerprint(bert, RECORDED.options(), made)
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
