from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerdex.choices import Dtype
from layerdex.errors import LayerdexError, ModelError
from tests.indexer.loaded import load
from tests.indexer.plain import cosines, plain_vectors, torch_engine
from tests.tiny_models import N_POSITIONS, change_json, drop_weight, save_tiny_model

Damage = Callable[[Path], object]

TEXTS = ["the battery died after one week", "a green stone"]


def assert_refused(folder: Path, pattern: str) -> str:
    with pytest.raises(ModelError, match=pattern) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.bias",
        "encoder.layer.1.attention.self.query.weight",
        "encoder.layer.3.output.dense.bias",
    ],
)
def test_missing_weights_are_never_made_up(name: str, bert: Path) -> None:
    drop_weight(bert, name)

    assert_refused(bert, f"lacks a weight .*{name}")


def test_a_missing_pooler_is_no_loss(bert: Path) -> None:
    before = load(bert).encode(TEXTS, [-1]).vectors

    drop_weight(bert, "pooler.dense.weight")

    np.testing.assert_array_equal(load(bert).encode(TEXTS, [-1]).vectors, before)


def test_more_layers_than_weights_are_refused(bert: Path) -> None:
    change_json(bert / "config.json", num_hidden_layers=9)

    assert_refused(bert, r"lacks \d+ weights .*encoder\.layer\.4\.")


def test_the_weights_of_another_width_are_refused(bert: Path) -> None:
    change_json(bert / "config.json", hidden_size=64)

    assert_refused(bert, "cannot load the model")


def cut(n_bytes: int) -> Damage:
    def apply(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:n_bytes])

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut(0), id="empty"),
        pytest.param(cut(50), id="cut in the header"),
        pytest.param(cut(30_000), id="cut in the weights"),
        pytest.param(lambda path: path.write_bytes(b"<!DOCTYPE html>" * 99), id="a web page"),
        pytest.param(
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid x\n"),
            id="a git-lfs pointer",
        ),
    ],
)
def test_damaged_weights_are_a_model_error(damage: Damage, bert: Path) -> None:
    damage(bert / "model.safetensors")

    assert_refused(bert, "cannot load the model")


@pytest.mark.parametrize(
    "config",
    [
        '{"model_type": "bert",',
        "[]",
        "null",
        "{}",
        '{"model_type": "nosuch"}',
        '{"model_type": "bert", "hidden_size": 32, "num_attention_heads": 5}',
        '{"model_type": "bert", "num_hidden_layers": "four"}',
    ],
)
def test_a_broken_configuration_is_a_model_error(config: str, bert: Path) -> None:
    (bert / "config.json").write_text(config)

    assert_refused(bert, "cannot (load the model|read)|does not hold a JSON object")


def test_a_configuration_that_is_not_text_is_a_model_error(bert: Path) -> None:
    (bert / "config.json").write_bytes(b"\xff\xfe\x00")

    assert_refused(bert, "cannot read")


def test_an_encoder_decoder_is_refused(bert: Path) -> None:
    from transformers import T5Config

    T5Config(d_model=16, num_layers=1, d_ff=16, num_heads=2, d_kv=8).save_pretrained(bert)

    assert_refused(bert, "encoder-decoder")


def test_a_vocabulary_alone_makes_a_tokenizer(bert: Path) -> None:
    expected = plain_vectors(bert, TEXTS, max_length=N_POSITIONS)
    vocab = json.loads((bert / "tokenizer.json").read_text())["model"]["vocab"]
    (bert / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(vocab, key=vocab.get)))
    for path in bert.glob("tokenizer*"):
        path.unlink()

    assert cosines(load(bert).encode(TEXTS, range(5)).vectors, expected).min() > 1 - 1e-6


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_a_model_without_its_tokenizer_is_refused(family: str, tmp_path: Path) -> None:
    # transformers then makes an empty tokenizer, to which every word is unknown.
    folder = save_tiny_model(family, tmp_path)
    for path in folder.glob("tokenizer*"):
        path.unlink()

    assert_refused(folder, "tokenizer")


@pytest.mark.parametrize("content", ["{", "{}", ""])
def test_a_broken_tokenizer_is_a_model_error(content: str, bert: Path) -> None:
    (bert / "tokenizer.json").write_text(content)

    assert_refused(bert, "cannot load the model")


def test_weights_that_are_not_numbers_are_never_stored(bert: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(bert / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][:] = float("nan")
    save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelError, match="zero or not finite"):
        load(bert).encode(TEXTS, [-1])
    # Below the damage the model is sound.
    assert np.isfinite(load(bert).encode(TEXTS, [0, 1]).vectors).all()


@pytest.fixture
def marker(bert: Path, tmp_path: Path) -> Path:
    """A file that the model's own code would make, were it run."""
    marker = tmp_path / "code-was-run"
    code = f"open({str(marker)!r}, 'w').close()\nclass Model: pass\nclass Config: pass\n"
    for name in ("modeling_own", "configuration_own", "tokenization_own"):
        (bert / f"{name}.py").write_text(code + "class Tokenizer: pass\n")
    return marker


OWN_MODEL = {"AutoConfig": "configuration_own.Config", "AutoModel": "modeling_own.Model"}


def test_the_marker_of_the_models_own_code_works(bert: Path, marker: Path) -> None:
    from transformers import AutoModel

    change_json(bert / "config.json", auto_map=OWN_MODEL, model_type="own")
    assert not marker.exists()

    try:
        with pytest.raises(Exception, match="Config"):
            AutoModel.from_pretrained(bert, trust_remote_code=True)
        assert marker.exists()
    finally:
        for name in [name for name in sys.modules if name.endswith("_own")]:
            del sys.modules[name]


def test_a_model_that_needs_its_own_code_is_refused_unrun(bert: Path, marker: Path) -> None:
    change_json(bert / "config.json", auto_map=OWN_MODEL, model_type="own")

    assert_refused(bert, "custom code")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"auto_map": OWN_MODEL}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "tokenization_own.X"]}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization_own.X", None]}}),
    ],
)
def test_a_known_model_is_loaded_without_the_code_beside_it(
    file: str, changes: dict[str, Any], bert: Path, marker: Path
) -> None:
    expected = plain_vectors(bert, TEXTS, max_length=N_POSITIONS)[-1]
    change_json(bert / file, **changes)

    found = load(bert).encode(TEXTS, [-1]).vectors[0]

    assert cosines(found, expected).min() > 1 - 1e-6
    assert not marker.exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("modules.json", ["a"]),
        ("modules.json", [{"type": "sentence_transformers.models.Pooling"}]),
        ("sentence_bert_config.json", []),
        ("sentence_bert_config.json", {"max_seq_length": "12"}),
        ("sentence_bert_config.json", {"max_seq_length": -1}),
    ],
)
def test_misshapen_sentence_transformers_files_are_a_model_error(
    file: str, content: Any, bert: Path
) -> None:
    (bert / file).write_text(json.dumps(content))

    with pytest.raises(LayerdexError) as caught:
        load(bert)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_are_computed_in_the_precision_asked_for(
    dtype: str, bert: Path
) -> None:
    import torch
    from transformers import AutoModel

    AutoModel.from_pretrained(bert, dtype=getattr(torch, dtype)).save_pretrained(bert)
    expected = plain_vectors(bert, TEXTS, max_length=N_POSITIONS)

    encoder = load(bert)

    assert encoder.engine.dtype is Dtype.FLOAT32
    assert cosines(encoder.encode(TEXTS, range(5)).vectors, expected).min() > 1 - 1e-6


def test_a_model_too_large_for_its_device_is_a_clear_error(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def fail(*_args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", fail)

    with pytest.raises(ModelError, match=r"cannot load the model .*: CUDA out of memory"):
        load(bert)


def test_loading_leaves_torchs_default_dtype_to_other_threads(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_default, defaults = torch.set_default_dtype, set[torch.dtype]()

    def noticed(dtype: torch.dtype) -> None:
        defaults.add(dtype)
        set_default(dtype)

    monkeypatch.setattr(torch, "set_default_dtype", noticed)
    encoder = load(bert, dtype=Dtype.BFLOAT16)

    assert defaults == {torch.float32}
    assert {one.dtype for one in torch_engine(encoder).module.parameters()} == {torch.bfloat16}
