from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from layerdex.choices import Dtype, EngineName
from layerdex.errors import LayerdexError, ModelError, OptionError
from layerdex.indexer.engines.openvino.engine import is_installed
from layerdex.indexer.models.loading import n_embeddings_of
from tests.indexer.loaded import load
from tests.indexer.plain import cosines, plain_vectors, torch_engine
from tests.tiny_models import (
    N_POSITIONS,
    change_json,
    drop_weight,
    save_tiny_model,
    sentence,
)

ENGINES = [EngineName.TORCH, *([EngineName.OPENVINO] if is_installed() else [])]
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
    ],
)
def test_damaged_weights_are_a_model_error_that_names_their_file(
    damage: Damage, bert: Path
) -> None:
    damage(bert / "model.safetensors")

    assert_refused(bert, "cannot load the model .*: .*/model.safetensors: ")


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


@pytest.mark.parametrize(
    ("content", "where"), [("{", ".*/tokenizer.json"), ("", ".*/tokenizer.json"), ("{}", "its tok")]
)
def test_a_broken_tokenizer_is_a_model_error(content: str, where: str, bert: Path) -> None:
    (bert / "tokenizer.json").write_text(content)

    assert_refused(bert, f"cannot load the model .*: {where}")


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


def add_tokens(folder: Path, *tokens: str, **special: str) -> None:
    """Add tokens to a tokenizer, and no rows to its model, as is often forgotten."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(tokens))
    tokenizer.add_special_tokens(special)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    "engine",
    [
        EngineName.AUTO,
        EngineName.TORCH,
        pytest.param(
            EngineName.OPENVINO,
            marks=pytest.mark.skipif(not is_installed(), reason="openvino is not installed"),
        ),
    ],
)
@pytest.mark.parametrize(
    ("tokens", "special", "named"),
    [
        (["covidvax"], {}, "covidvax"),
        (["covidvax", "flurona"], {}, "flurona"),
        ([], {"pad_token": "[FILL]"}, "[FILL]"),
        ([], {"mask_token": "<hidden>"}, "<hidden>"),
    ],
)
def test_tokens_without_an_embedding_are_refused_before_any_text(
    engine: EngineName, tokens: list[str], special: dict[str, str], named: str, bert: Path
) -> None:
    n_rows = json.loads((bert / "config.json").read_text())["vocab_size"]
    add_tokens(bert, *tokens, **special)

    with pytest.raises(ModelError) as caught:
        load(bert, engine=engine)

    n_more = max(len(tokens), len(special))
    assert f"tokens up to id {n_rows + n_more - 1} ({named!r})" in str(caught.value)
    assert f"embeddings of {n_rows} tokens only" in str(caught.value)
    assert "resize_token_embeddings" in str(caught.value)


def test_special_tokens_that_only_the_post_processor_knows_are_refused(bert: Path) -> None:
    content = json.loads((bert / "tokenizer.json").read_text())
    content["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [9_999]
    (bert / "tokenizer.json").write_text(json.dumps(content))

    assert_refused(bert, "tokens up to id 9999")


def test_a_model_may_have_more_embeddings_than_tokens(tmp_path: Path) -> None:
    # Many are padded to a multiple of 64 or more.
    folder = save_tiny_model("bert", tmp_path)
    n_tokens = json.loads((folder / "config.json").read_text())["vocab_size"]
    model = AutoModel.from_pretrained(folder)
    model.resize_token_embeddings(n_tokens + 30)
    model.save_pretrained(folder)
    add_tokens(folder, "covidvax")

    expected = plain_vectors(folder, ["the covidvax is good"], max_length=N_POSITIONS)
    found = load(folder).encode(["the covidvax is good"], range(5)).vectors
    assert cosines(found, expected).min() > 1 - 1e-6


def test_a_model_without_a_table_of_embeddings_has_nothing_to_compare() -> None:
    class Hashing(torch.nn.Module):
        def get_input_embeddings(self) -> torch.nn.Module:
            raise NotImplementedError

    class Convolving(torch.nn.Module):
        def get_input_embeddings(self) -> torch.nn.Module:
            return torch.nn.Conv1d(4, 8, 3)

    class Embedding(torch.nn.Module):
        def get_input_embeddings(self) -> torch.nn.Module:
            return torch.nn.Embedding(12, 2)

    models = [torch.nn.Module(), Hashing(), Convolving(), Embedding()]
    assert [n_embeddings_of(model) for model in models] == [None, None, None, 12]


def without_padding(folder: Path) -> None:
    content = json.loads((folder / "tokenizer_config.json").read_text())
    del content["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("of_model", [None, -1, 3])
def test_a_tokenizer_without_padding_pads_all_the_same(
    family: str, of_model: int | None, tmp_path: Path
) -> None:
    folder = save_tiny_model(family, tmp_path)
    expected = plain_vectors(folder, [*TEXTS, sentence(30, seed=1)], max_length=N_POSITIONS)
    without_padding(folder)
    if family == "bert":  # others cannot be built with these
        change_json(folder / "config.json", pad_token_id=of_model)

    found = load(folder).encode([*TEXTS, sentence(30, seed=1)], range(5)).vectors

    assert cosines(found, expected).min() > 1 - 1e-6


NO_LIMITS: list[Any] = [-1, 0, None, 10**30, 1e30, float("inf"), True, "512"]


@pytest.mark.parametrize("limit", NO_LIMITS)
def test_a_tokenizer_that_states_no_limit_leaves_it_to_the_model(limit: Any, bert: Path) -> None:
    change_json(bert / "tokenizer_config.json", model_max_length=limit)

    assert load(bert).settings.max_length == N_POSITIONS


@pytest.mark.parametrize("limit", [12, 12.0])
def test_a_tokenizer_may_state_less_than_the_model(limit: float, bert: Path) -> None:
    change_json(bert / "tokenizer_config.json", model_max_length=limit)

    assert load(bert).settings.max_length == 12


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tokenizers_limit_is_a_default_that_an_option_exceeds(
    engine: EngineName, bert: Path
) -> None:
    change_json(bert / "tokenizer_config.json", model_max_length=12)

    for _ in range(2):  # OpenVINO's second time is from its cache
        assert load(bert, engine=engine).settings.max_length == 12
        longer = load(bert, engine=engine, max_length=N_POSITIONS)
        found = longer.encode([sentence(99, seed=1)], [-1])
        assert found.n_tokens.tolist() == [N_POSITIONS]
    with pytest.raises(OptionError, match=f"{N_POSITIONS + 1} is not between 1 and {N_POSITIONS}"):
        load(bert, engine=engine, max_length=N_POSITIONS + 1)


def test_a_tokenizer_that_keeps_the_end_of_texts_is_noted(bert: Path) -> None:
    assert load(bert).notes() == []
    change_json(bert / "tokenizer_config.json", truncation_side="left")

    encoder = load(bert, max_length=5)

    (note,) = encoder.notes()
    assert "its tokenizer keeps the end of long texts; Layerdex keeps the beginning" in note
    found = encoder.encode(["the cat sat on a mat", "the cat sat"], [-1]).vectors[0]
    np.testing.assert_array_equal(found[0], found[1])


def assert_default_may_be_exceeded(folder: Path) -> None:
    long = sentence(900, seed=3)

    default, more = load(folder), load(folder, max_length=700)

    assert default.settings.max_length == 512
    assert default.encode([long], [1]).n_tokens.tolist() == [512]
    found = more.encode([long], range(5))
    assert found.n_tokens.tolist() == [700]
    expected = plain_vectors(folder, [long], max_length=700)
    assert cosines(found.vectors, expected).min() > 1 - 1e-6


# How a limit may be said to be none is tested above, with a model that is quick.
@pytest.mark.parametrize(
    "limit", [-1, *(pytest.param(one, marks=pytest.mark.soak) for one in (None, 1e30))]
)
def test_xlnet_states_no_limit(limit: Any, tmp_path: Path) -> None:
    folder = save_tiny_model("xlnet", tmp_path)
    change_json(folder / "tokenizer_config.json", model_max_length=limit)

    assert_default_may_be_exceeded(folder)


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_model_that_states_no_limit_has_a_default(limit: int, tmp_path: Path) -> None:
    folder = save_tiny_model("modernbert", tmp_path)
    change_json(folder / "config.json", max_position_embeddings=limit)

    assert_default_may_be_exceeded(folder)


@pytest.mark.parametrize("family", ["bert", "yoso", "ibert"])
def test_the_longest_text_fits_the_table_of_positions(family: str, tmp_path: Path) -> None:
    folder = save_tiny_model(family, tmp_path)

    encoded = load(folder).encode([sentence(99, seed=1)], [-1])

    assert encoded.n_tokens.tolist() == [N_POSITIONS]


@pytest.mark.parametrize("family", ["nystromformer", "lilt", "vit", "perceiver"])
def test_a_model_that_cannot_be_run_is_refused_without_useless_advice(
    family: str, tmp_path: Path
) -> None:
    folder = save_tiny_model(family, tmp_path)

    message = assert_refused(folder, r"torch cannot run this model \(.*not supported$")

    assert "--device" not in message
    assert len(message) < 500


def test_advice_is_given_where_a_device_is_to_blame(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BertModel

    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("CUDA error: an illegal instruction was encountered")

    monkeypatch.setattr(BertModel, "forward", fail)

    assert_refused(bert, r"CUDA error.*: try another --device or --dtype$")
