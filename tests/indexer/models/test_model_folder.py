from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from layerdex.choices import Dtype, Pooling
from layerdex.errors import ModelError, OptionError
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.models.model_folder import find_model
from tests.indexer import loaded
from tests.tiny_models import N_POSITIONS

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refusal(name: str, *, revision: str | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        find_model(name, revision=revision)
    message = str(caught.value)
    assert "\n" not in message
    return message


def add_sentence_transformers_files(
    folder: Path, pooling: dict[str, Any], *, place: str = "1_Pooling"
) -> None:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": place, "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_N", "type": "sentence_transformers.models.Normalize"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / place).mkdir()
    (folder / place / "config.json").write_text(json.dumps(pooling))


def flags(**chosen: bool) -> dict[str, Any]:
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    return {
        "word_embedding_dimension": 32,
        **{f"pooling_mode_{name}": chosen.get(name, False) for name in names},
    }


def test_a_local_folder_is_named_by_its_full_path(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bert.parent)

    found = find_model("bert")

    assert found.path == bert.resolve()
    assert found.name == str(bert.resolve())
    assert (found.revision, found.pooling, found.max_length) == (None, None, None)


def test_a_tilde_is_the_home_folder(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(bert.parent))

    assert find_model("~/bert").path == bert.resolve()


@pytest.mark.parametrize("argument", ["name", "adapter"])
def test_a_user_without_a_home_folder_is_named(argument: str, bert: Path) -> None:
    with pytest.raises(OptionError, match=r"^~nosuchuser/x: there is no home folder"):
        find_model(**{"name": str(bert), argument: "~nosuchuser/x"})


def test_a_folder_without_configuration_is_no_model(bert: Path) -> None:
    (bert / "config.json").unlink()

    assert "config.json" in refusal(str(bert))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "m.pkl"])
def test_pickled_weights_are_refused_by_name(name: str, bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / name)

    message = refusal(str(bert))

    assert "no safetensors" in message
    assert name in message
    assert "convert" in message


def test_a_folder_without_weights_is_refused(bert: Path) -> None:
    (bert / "model.safetensors").unlink()

    assert "no safetensors" in refusal(str(bert))


@pytest.mark.parametrize(
    "name", ["./models/x", "../x", "~/no-such-model", "/no/such/model", "a/b/c", "a b", "a//b"]
)
def test_a_path_that_is_not_there_is_never_looked_up_on_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_options: Any) -> str:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)

    assert repr(name) in refusal(name)


def test_a_hub_model_that_is_not_cached_says_what_to_do_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The variable itself is read once, when huggingface_hub is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    message = refusal("nobody/no-such-model")

    assert message.startswith("there is no folder 'nobody/no-such-model', and the model cannot be")
    for way_out in ("network", "folder to --model", "--model minilm"):
        assert way_out in message


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("[Errno -3] Temporary failure\nin name resolution"),
        TimeoutError("timed out"),
        OSError(28, "No space left on device"),
        ValueError("anything\nelse"),
    ],
)
def test_any_failure_of_the_hub_is_one_clear_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_options: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)

    message = refusal("nobody/model", revision="v2")

    assert "no folder 'nobody/model', and the model at revision v2 cannot be" in message
    assert type(error).__name__ in message


def test_a_hub_model_records_its_commit_and_fetches_no_pickles(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    snapshot = bert.rename(tmp_path / COMMIT)

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    found = find_model("someone/model", revision="main")

    assert (found.name, found.revision, found.path) == ("someone/model", COMMIT, snapshot)
    assert (asked["name"], asked["revision"]) == ("someone/model", "main")
    patterns = asked["allow_patterns"]
    assert "*.safetensors" in patterns
    assert not [one for one in patterns if one.endswith((".bin", ".py", ".pt", "*"))]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (flags(mean_tokens=True), Pooling.MEAN),
        (flags(cls_token=True), Pooling.CLS),
        (flags(max_tokens=True), Pooling.MAX),
        (flags(mean_sqrt_len_tokens=True), Pooling.MEAN),
        ({"pooling_mode": "cls"}, Pooling.CLS),
        ({"pooling_mode": "max"}, Pooling.MAX),
        ({"pooling_mode": "mean"}, Pooling.MEAN),
        # Two poolings side by side make one longer vector: not among ours.
        (
            flags(mean_tokens=True, cls_token=True),
            "cls+mean",
        ),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode": ["mean"]}, Pooling.MEAN),
        ({"pooling_mode": ["cls", "mean"]}, "cls+mean"),
        ({}, None),
    ],
)
def test_the_models_own_pooling_is_read(
    config: dict[str, Any], expected: Pooling | str | None, bert: Path
) -> None:
    add_sentence_transformers_files(bert, config)

    assert find_model(str(bert)).pooling == expected


def test_a_pooling_that_is_none_of_ours_must_be_replaced_by_the_user(bert: Path) -> None:
    add_sentence_transformers_files(bert, {"pooling_mode": "lasttoken"})

    with pytest.raises(OptionError, match=r"made for pooling 'lasttoken'.*--pooling"):
        load(bert)
    assert load(bert, pooling=Pooling.CLS).settings.pooling is Pooling.CLS


def test_the_pooling_module_is_found_by_its_type_not_its_name(bert: Path) -> None:
    add_sentence_transformers_files(bert, {"pooling_mode": "max"}, place="7_Elsewhere")

    assert find_model(str(bert)).pooling is Pooling.MAX


def test_the_models_own_choices_are_defaults_that_an_option_overrides(bert: Path) -> None:
    add_sentence_transformers_files(bert, flags(cls_token=True))
    (bert / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')

    own = load(bert).settings
    asked = load(bert, pooling=Pooling.MAX, max_length=30).settings

    assert (own.pooling, own.max_length) == (Pooling.CLS, 24)
    assert (asked.pooling, asked.max_length) == (Pooling.MAX, 30)


def load(
    folder: Path, *, pooling: Pooling | None = None, max_length: int | None = None
) -> TransformerEncoder:
    return loaded.load(folder, pooling=pooling, max_length=max_length, dtype=Dtype.AUTO)


@pytest.mark.parametrize("content", ['{"max_seq_length": 999}', '{"max_seq_length": null}', "{}"])
def test_the_models_own_length_never_exceeds_its_positions(content: str, bert: Path) -> None:
    (bert / "sentence_bert_config.json").write_text(content)

    encoder = load(bert)

    assert encoder.settings.max_length == N_POSITIONS


@pytest.mark.parametrize("file", ["modules.json", "sentence_bert_config.json"])
def test_files_that_are_not_json_are_a_model_error(file: str, bert: Path) -> None:
    (bert / file).write_text("[{")

    assert file in refusal(str(bert))


POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.mark.parametrize(
    "file",
    [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
    ],
)
def test_a_pointer_in_place_of_a_file_says_how_to_fetch_it(file: str, bert: Path) -> None:
    add_sentence_transformers_files(bert, flags(mean_tokens=True))
    (bert / file).write_text(POINTER)

    message = refusal(str(bert))

    assert message.startswith(f"{bert / file} is a pointer of Git LFS")
    assert "git lfs pull" in message


def test_the_root_of_a_model_in_the_hubs_cache_names_its_snapshots(
    bert: Path, tmp_path: Path
) -> None:
    root = tmp_path / "models--org--name"
    (root / "refs").mkdir(parents=True)
    (root / "snapshots").mkdir()
    snapshot = bert.rename(root / "snapshots" / COMMIT)

    assert refusal(str(root)).endswith(f"whose snapshots are models: {snapshot}")
    assert find_model(str(snapshot)).path == snapshot.resolve()


def test_a_folder_whose_name_no_library_opens_is_refused_before_it_is_read(
    bert: Path, tmp_path: Path
) -> None:
    folder = bert.rename(tmp_path / os.fsdecode(b"mod\xe8le"))
    with pytest.raises(OptionError, match=r"mod\\xe8le' is not UTF-8.*rename it"):
        find_model(str(folder))
