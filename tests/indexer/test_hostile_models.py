"""Model folders from someone who means harm: nothing runs, nothing outside is read, one error.

Most are refused before torch or transformers is asked; what these do with the rest is in
`test_loading.py`.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerdex.errors import ModelError
from layerdex.indexer.models.model_folder import find_model
from tests.indexer.loaded import load
from tests.tiny_models import change_json

Forge = Callable[[Path], object]


class _Run:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def config(**changes: Any) -> Forge:
    return lambda folder: change_json(folder / "config.json", **changes)


def write(name: str, content: str) -> Forge:
    return lambda folder: (folder / name).write_text(content)


def pipe(name: str) -> Forge:
    def forge(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return forge


def weights_elsewhere(**changes: Any) -> Forge:
    """Sound weights beside the folder, reached by an index of shards or by a setting."""

    def forge(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
        (folder / "other.safetensors").write_bytes(b"")
        change_json(folder / "config.json", **changes)

    return forge


def shards(place: str) -> Forge:
    def forge(folder: Path) -> None:
        weights_elsewhere()(folder)
        index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": place}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return forge


def pickled_weights(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Run(folder.parent / "ran")))
    change_json(folder / "config.json", transformers_weights="adapter_model.bin")


def tokenizer_elsewhere(folder: Path) -> None:
    outside = folder.parent / "outside.json"
    (folder / "tokenizer.json").rename(outside)
    change_json(folder / "tokenizer_config.json", tokenizer_file=str(outside))


HOSTILE: dict[str, tuple[Forge, str]] = {
    "a million blocks": (config(num_hidden_layers=10**6), "num_hidden_layers 1000000"),
    "blocks within": (config(text_config={"n_layers": 10**9}), "n_layers 1000000000"),
    "a million groups": (config(num_hidden_groups=10**6), "num_hidden_groups"),
    "labels": (config(num_labels=10**12), "num_labels"),
    "attention of the hub": (config(_attn_implementation="evil/kernel"), "code from the hub"),
    "experts of the hub": (config(experts_implementation="evil/kernel:x"), "code from the hub"),
    "shards upwards": (shards("../outside.safetensors"), "weights outside its own safetensors"),
    "shards at a path": (shards("/etc/passwd"), "weights outside its own safetensors"),
    "shards that are pickles": (shards("pytorch_model.bin"), "weights outside its own safetensors"),
    "weights upwards": (
        weights_elsewhere(transformers_weights="../outside.safetensors"),
        "weights outside its own safetensors",
    ),
    "a pickle as weights": (pickled_weights, "weights outside its own safetensors"),
    "an adapter": (write("adapter_config.json", '{"base_model_name_or_path": "/"}'), "an adapter"),
    "a tokenizer elsewhere": (tokenizer_elsewhere, "tokenizer_file is not in its folder"),
    "pooling upwards": (
        write("modules.json", json.dumps([{"path": "..", "type": "models.Pooling"}])),
        "is outside its folder",
    ),
    "nested settings": (write("config.json", '{"a": ' + "[" * 100_000), "cannot read"),
    "a long number": (write("config.json", '{"hidden_size": ' + "9" * 5_000 + "}"), "cannot read"),
    "nested modules": (write("modules.json", "[" * 100_000), "cannot read"),
    "settings that are a pipe": (pipe("tokenizer_config.json"), "is not a file"),
    "weights that are a pipe": (pipe("model-2.safetensors"), "is not a file"),
    "modules that are a pipe": (pipe("modules.json"), "is not a file"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_folder_is_refused_before_anything_is_loaded(bert: Path, kind: str) -> None:
    forge, reason = HOSTILE[kind]
    forge(bert)
    with pytest.raises(ModelError, match=reason) as caught:
        find_model(str(bert))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000
    assert not (bert.parent / "ran").exists()


def test_pickle_of_the_test_would_make_its_folder(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(_Run(tmp_path / "ran")))
    assert (tmp_path / "ran").is_dir()


def test_sound_folder_is_refused_nothing(bert: Path) -> None:
    change_json(bert / "tokenizer_config.json", tokenizer_file="/home/maker/tokenizer.json")
    index = {"metadata": {}, "weight_map": {"a": "model.safetensors"}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    pickles = {"weight_map": {"a": "pytorch_model-1.bin"}}  # beside them, and never read
    (bert / "pytorch_model.bin.index.json").write_text(json.dumps(pickles))
    change_json(bert / "config.json", attn_implementation="eager", num_labels=1_000)
    assert find_model(str(bert)).path == bert.resolve()


def pickle_as_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(_Run(folder.parent / "ran")))


def huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(pickle_as_safetensors, id="a pickle named safetensors"),
        pytest.param(huge_header, id="a header of a terabyte"),
        pytest.param(config(vocab_size=10**9), id="a huge vocabulary"),
        pytest.param(config(intermediate_size=10**12), id="a huge width"),
        pytest.param(config(max_position_embeddings=10**12), id="endless positions"),
    ],
)
def test_what_the_libraries_refuse_is_one_clear_error(bert: Path, forge: Forge) -> None:
    forge(bert)
    with pytest.raises(ModelError, match="cannot load the model") as caught:
        load(bert)
    assert "\n" not in str(caught.value)
    assert not (bert.parent / "ran").exists()


def test_class_of_a_tokenizer_is_never_looked_up_outside_of_transformers(bert: Path) -> None:
    change_json(bert / "tokenizer_config.json", tokenizer_class="os.system")
    (bert / "os.py").write_text(f"open({str(bert.parent / 'ran')!r}, 'w')\n")
    try:
        load(bert)
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017 - an older transformers may refuse it
    assert not (bert.parent / "ran").exists()
