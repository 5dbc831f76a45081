from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from layerdex.choices import Pooling
from layerdex.errors import ModelError, OptionError
from layerdex.indexer.models.modules import Modules, read_modules
from tests.indexer.loaded import load
from tests.sentence_models import to_sentence_model

LIBRARY = "sentence_transformers.models."


def write_modules(folder: Path, *kinds: str) -> Path:
    """List modules of these types, each in a folder of its own but for the first."""
    entries = [{"path": f"{i}_Module" if i else "", "type": kind} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(entries))
    return folder


def notes_of(folder: Path, *kinds: str) -> tuple[str, ...]:
    return read_modules("m", write_modules(folder, *(LIBRARY + kind for kind in kinds))).notes


def test_a_folder_without_modules_is_the_transformer(tmp_path: Path) -> None:
    assert read_modules("m", tmp_path) == Modules(tmp_path)


@pytest.mark.parametrize(
    "kind",
    ["WordEmbeddings", "BoW", "StaticEmbedding", "CLIPModel", "Router", "Asym", "SparseStatic"],
)
def test_a_model_that_begins_with_something_else_is_refused(kind: str, tmp_path: Path) -> None:
    # Many of them have no config.json, of which the user is not to hear first.
    write_modules(tmp_path, LIBRARY + kind, LIBRARY + "Pooling")

    with pytest.raises(ModelError, match=f"begins with the module {LIBRARY + kind!r}: only models"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kinds", "named"),
    [
        (["Transformer", "Pooling"], None),
        (["Transformer", "Pooling", "Normalize"], None),
        (["Transformer", "Dropout", "Pooling", "Dropout", "Normalize"], None),
        (["Transformer", "Pooling", "Dense"], "module Dense is"),
        (["Transformer", "Pooling", "Normalize", "Dense", "Normalize"], "module Dense is"),
        (["Transformer", "WeightedLayerPooling", "Pooling"], "module WeightedLayerPooling is"),
        (["Transformer", "CNN", "Pooling", "LayerNorm"], "modules CNN, LayerNorm are"),
        (["Transformer", "LSTM", "Pooling"], "module LSTM is"),
        (["Transformer", "Normalize", "Pooling"], "module Normalize is"),
        (["BERT", "Pooling"], None),
    ],
)
def test_modules_that_are_not_run_are_named_in_one_note(
    kinds: list[str], named: str | None, tmp_path: Path
) -> None:
    notes = notes_of(tmp_path, *kinds)

    assert [note.split(" not applied")[0] for note in notes] == ([f"its {named}"] if named else [])


def test_a_model_without_pooling_is_said_to_have_none(tmp_path: Path) -> None:
    applied, pooled = notes_of(tmp_path, "MLMTransformer", "SpladePooling")

    assert applied.startswith("its module SpladePooling is not applied")
    assert "no Pooling module" in pooled
    assert "mean" in pooled


def test_code_of_the_models_own_is_named_and_not_run(tmp_path: Path) -> None:
    write_modules(tmp_path, "own_code.Transformer", "own_code.Pooling")

    notes = read_modules("m", tmp_path).notes

    assert [note.split(": ")[0] for note in notes] == [
        f"its own_code.{name} is code of its own, which is never run"
        for name in ("Transformer", "Pooling")
    ]


@pytest.mark.parametrize("place", ["..", "a/../../b", "/etc", "C:\\x", "..\\x", "a\0b"])
def test_modules_outside_the_folder_are_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(
        json.dumps([{"path": place, "type": LIBRARY + "Transformer"}])
    )

    with pytest.raises(ModelError, match="is outside its folder"):
        read_modules("m", tmp_path)


@pytest.mark.parametrize(
    ("pooling", "named"),
    [
        ({"pooling_mode": ["cls", "mean"]}, "cls+mean"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls+mean"),
        ({"pooling_mode": ["mean", "max", "cls"]}, "mean+max+cls"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": ["weightedmean"]}, "weightedmean"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ({"pooling_mode": ["lasttoken"]}, "lasttoken"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode": "attention"}, "attention"),
    ],
)
def test_a_pooling_that_is_not_supported_is_never_replaced_by_the_mean(
    pooling: dict[str, Any], named: str, bert: Path
) -> None:
    to_sentence_model(bert, pooling=pooling)

    with pytest.raises(OptionError) as caught:
        load(bert)

    assert f"was made for pooling '{named}', which is not supported" in str(caught.value)
    assert "mean, cls, max, mask with --pooling" in str(caught.value)
    assert load(bert, pooling=Pooling.MAX).settings.pooling is Pooling.MAX


@pytest.mark.parametrize("mode", [3, [], ["cls", 3], {"cls": True}, True])
def test_a_pooling_that_is_no_name_is_a_model_error(mode: Any, bert: Path) -> None:
    to_sentence_model(bert, pooling={"pooling_mode": mode})

    with pytest.raises(ModelError, match="not a name or a list of names"):
        load(bert)


def test_the_subfolder_of_the_transformer_must_hold_a_model(bert: Path) -> None:
    to_sentence_model(bert, place="0_Transformer")
    (bert / "0_Transformer" / "config.json").unlink()

    with pytest.raises(ModelError, match=r"0_Transformer has no config\.json"):
        load(bert)


PROMPT = {"prompts": {"query": "ask "}, "default_prompt_name": "query"}


def test_pooling_without_the_prompt_is_refused_where_there_is_a_prompt(bert: Path) -> None:
    to_sentence_model(bert, pooling={"pooling_mode": "mean", "include_prompt": False})
    assert load(bert).settings.template == "{text}"

    for template in ("title: {text}", "{text} end"):
        with pytest.raises(OptionError, match=r"without its prompt .*--pooling.*--template"):
            load(bert, template=template)
    # What the message offers.
    chosen = load(bert, template="title: {text}", pooling=Pooling.MEAN)
    assert any("a prompt is pooled too" in note for note in chosen.notes())


def test_a_default_prompt_is_a_prompt(bert: Path) -> None:
    to_sentence_model(
        bert, pooling={"pooling_mode": "mean", "include_prompt": False}, config=PROMPT
    )

    with pytest.raises(OptionError, match="without its prompt"):
        load(bert)
    assert load(bert, template="{text}").settings.template == "{text}"
