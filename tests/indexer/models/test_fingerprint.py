from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerdex.choices import LongText, Pooling
from layerdex.indexer.models.fingerprint import (
    earlier_fingerprint,
    fingerprint,
    read_contents,
)
from layerdex.indexer.models.fingerprint import model_digest as digest_contents
from layerdex.indexer.models.model_folder import find_model
from layerdex.options import EncoderOptions
from tests.tiny_models import change_json

Change = Callable[[Path], object]


def of(
    folder: Path,
    *,
    pooling: Pooling = Pooling.MEAN,
    template: str = "{text}",
    max_length: int = 32,
    long: LongText = LongText.TRUNCATE,
) -> str:
    options = EncoderOptions(pooling=pooling, template=template, max_length=max_length, long=long)
    return fingerprint(read_contents(folder), options)


def model_digest(folder: Path) -> str:
    return digest_contents(read_contents(folder))


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


CHANGES: dict[str, Change] = {
    "a weight": lambda folder: flip_last_byte(folder / "model.safetensors"),
    "a further weight file": lambda folder: (folder / "z.safetensors").write_bytes(b"\0" * 9),
    "the configuration": lambda folder: change_json(folder / "config.json", layer_norm_eps=1e-5),
    "the activation": lambda folder: change_json(folder / "config.json", hidden_act="relu"),
    "the tokenizer": lambda folder: change_json(folder / "tokenizer.json", normalizer=None),
    "its settings": lambda folder: change_json(folder / "tokenizer_config.json", do_lower_case=0),
    "a vocabulary": lambda folder: (folder / "vocab.txt").write_text("a\nb\n"),
    "sentencepiece": lambda folder: (folder / "spiece.model").write_bytes(b"\0"),
    "sentencepiece of DeBERTa": lambda folder: (folder / "spm.model").write_bytes(b"\0"),
    "sentencepiece of Llama": lambda folder: (folder / "tokenizer.model").write_bytes(b"\0"),
    "sentencepiece by any name": lambda folder: (folder / "x.model").write_bytes(b"\0"),
    "a version's tokenizer": lambda folder: (folder / "tokenizer.4.0.json").write_text("{}"),
    "entities": lambda folder: (folder / "entity_vocab.json").write_text("{}"),
}
IRRELEVANT: dict[str, Change] = {
    "name": lambda folder: change_json(folder / "config.json", _name_or_path="elsewhere"),
    "version": lambda folder: change_json(folder / "config.json", transformers_version="9.9"),
    "dtype": lambda folder: change_json(folder / "config.json", dtype="bfloat16"),
    "old dtype": lambda folder: change_json(folder / "config.json", torch_dtype="float16"),
    "key order": lambda folder: (folder / "config.json").write_text(
        json.dumps(dict(reversed(json.loads((folder / "config.json").read_text()).items())))
    ),
    "a readme": lambda folder: (folder / "README.md").write_text("x"),
    "other weights": lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"),
    "mtime": lambda folder: os.utime(folder / "model.safetensors", ns=(1, 1)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changes_with_whatever_decides_a_vector(what: str, bert: Path) -> None:
    before = of(bert)

    CHANGES[what](bert)

    assert of(bert) != before


@pytest.mark.parametrize("what", CHANGES)
def test_another_model_never_meets_a_graph_in_the_cache(what: str, bert: Path) -> None:
    before = model_digest(bert)

    CHANGES[what](bert)

    assert model_digest(bert) != before


@pytest.mark.parametrize("what", IRRELEVANT)
def test_stays_where_no_vector_changes(what: str, bert: Path) -> None:
    before = of(bert)

    IRRELEVANT[what](bert)

    assert of(bert) == before


def test_every_option_that_decides_a_vector_gives_another(bert: Path) -> None:
    found = [
        of(bert),
        of(bert, pooling=Pooling.CLS),
        of(bert, pooling=Pooling.MAX),
        of(bert, template="q: {text}"),
        of(bert, template="{text} "),
        of(bert, max_length=31),
        of(bert, long=LongText.CHUNK),
    ]

    assert len(set(found)) == len(found)
    assert all(len(one) == 32 and int(one, 16) for one in found)


def test_is_what_it_was_before_long_texts_could_be_chunked(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "vocab.txt").write_text("a\nb\n")

    # Indexes that exist hold this one: it must never change.
    assert of(tmp_path, template="q: {text}") == "8ede3894c9af26d93a7cea0a5b9ee3ae"


def test_is_what_it_was_when_only_some_tokenizer_files_counted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}')
    for name in (
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "sentencepiece.bpe.model",
        "spiece.model",
    ):
        (tmp_path / name).write_text(name)

    assert of(tmp_path) == "248360d8b2f328a8b759bf4e3368f055"


@pytest.mark.minilm
def test_of_minilm_is_what_it_was_before_more_of_its_files_was_read() -> None:
    folder = find_model("minilm").path

    assert of(folder, max_length=256) == "bf78c281aa883159dd8b0457ab820a67"


def keep_case(folder: Path) -> None:
    change_json(folder / "tokenizer.json", normalizer=None)


def test_changes_where_texts_are_lowered_for_a_tokenizer_that_keeps_case(bert: Path) -> None:
    keep_case(bert)
    before = of(bert), model_digest(bert)

    change_json(bert / "sentence_bert_config.json", do_lower_case=True)

    assert of(bert) != before[0]
    assert model_digest(bert) != before[1]
    options = EncoderOptions(
        pooling=Pooling.MEAN, template="{text}", max_length=32, long=LongText.TRUNCATE
    )
    assert earlier_fingerprint(read_contents(bert), options) == before[0]


def test_stays_where_the_case_of_texts_does_not_change(bert: Path) -> None:
    before = of(bert)
    change_json(bert / "sentence_bert_config.json", do_lower_case=True, max_seq_length=12)
    assert of(bert) == before

    keep_case(bert)
    lowered = of(bert)
    change_json(bert / "sentence_bert_config.json", do_lower_case=False)
    kept = of(bert)
    (bert / "sentence_bert_config.json").unlink()
    assert of(bert) == kept != lowered


def test_says_which_of_several_weight_files_a_model_is_read_from(bert: Path) -> None:
    weights = bert / "model.safetensors"
    names = ["model-1.safetensors", "model-2.safetensors", "model-2-other.safetensors"]
    for name in names:
        (bert / name).write_bytes(weights.read_bytes())
    weights.unlink()
    index = bert / "model.safetensors.index.json"
    plain = of(bert), model_digest(bert)

    found = {plain}
    for used in (names[:2], names[::2], names):
        tensors = {f"tensor.{i}": name for i, name in enumerate(used)}
        index.write_text(json.dumps({"weight_map": tensors}))
        found.add((of(bert), model_digest(bert)))

    # All files are read in the last case, as without an index.
    assert len(found) == 3
    assert (of(bert), model_digest(bert)) == plain


@pytest.mark.parametrize("content", ["", "{", '{"weight_map": {"a": "x.safetensors"}}', "[]"])
def test_an_index_of_shards_beside_weights_in_one_file_is_not_read(
    content: str, bert: Path
) -> None:
    before = of(bert)

    (bert / "model.safetensors.index.json").write_text(content)

    assert of(bert) == before


def test_a_copy_elsewhere_has_the_same(bert: Path, tmp_path: Path) -> None:
    before = of(bert)

    assert of(bert.rename(tmp_path / "moved")) == before
