from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerdex.choices import LongText, Pooling
from layerdex.errors import ModelError
from layerdex.indexer.models.fingerprint import (
    earlier_fingerprint,
    file_digest,
    fingerprint,
    model_digest,
)
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
    return fingerprint(folder, options)


def cache_file() -> Path:
    return Path(os.environ["XDG_CACHE_HOME"]) / "layerdex" / "digests.json"


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def n_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were really read to be digested."""
    real = hashlib.file_digest
    names: list[str] = []

    def digest(file: Any, algorithm: str) -> Any:
        names.append(Path(file.name).name)
        return real(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    return names


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
    assert earlier_fingerprint(bert, options) == before[0]


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


def test_a_copy_elsewhere_has_the_same(bert: Path, tmp_path: Path) -> None:
    before = of(bert)

    assert of(bert.rename(tmp_path / "moved")) == before


def test_a_digest_is_the_files_sha256_and_is_read_once(bert: Path, n_read: list[str]) -> None:
    weights = bert / "model.safetensors"

    assert file_digest(weights) == sha256(weights)
    assert file_digest(weights) == sha256(weights)
    assert n_read == ["model.safetensors"]


def test_a_cached_digest_is_found_through_a_link(
    bert: Path, tmp_path: Path, n_read: list[str]
) -> None:
    # As the hub's cache has it: a snapshot folder of links to blobs.
    weights = bert / "model.safetensors"
    file_digest(weights)
    (tmp_path / "link").symlink_to(weights)

    assert file_digest(tmp_path / "link") == sha256(weights)
    assert n_read == ["model.safetensors"]


def test_a_change_of_the_same_size_is_seen(bert: Path) -> None:
    weights = bert / "model.safetensors"
    before = file_digest(weights)
    status = weights.stat()

    flip_last_byte(weights)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns + 1))

    assert weights.stat().st_size == status.st_size
    assert file_digest(weights) == sha256(weights) != before


def test_a_replaced_file_of_the_same_size_and_time_is_seen(bert: Path, tmp_path: Path) -> None:
    weights = bert / "model.safetensors"
    before = file_digest(weights)
    status = weights.stat()
    other = tmp_path / "other"
    other.write_bytes(weights.read_bytes())
    flip_last_byte(other)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))

    other.replace(weights)

    assert weights.stat().st_mtime_ns == status.st_mtime_ns
    assert file_digest(weights) == sha256(weights) != before


def test_digests_of_several_files_are_kept_side_by_side(bert: Path, n_read: list[str]) -> None:
    files = [bert / "model.safetensors", bert / "config.json", bert / "tokenizer.json"]

    for _ in range(2):
        assert [file_digest(one) for one in files] == [sha256(one) for one in files]
    assert len(n_read) == 3


def entries(path: Path) -> dict[str, str]:
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
    key = str(path.resolve())
    return {
        "empty": "",
        "cut short": '{"a": [1, 2',
        "not text": "\udcff",
        "a list": "[1]",
        "null": "null",
        "an entry of null": json.dumps({key: None}),
        "an entry of a number": json.dumps({key: 3}),
        "an entry of an object": json.dumps({key: {"size": 1}}),
        "an entry without a digest": json.dumps({key: stamp}),
        "another file's broken entry": json.dumps({"/elsewhere": None}),
    }


@pytest.mark.parametrize("kind", list(entries(Path(__file__))))
def test_a_broken_cache_is_ignored_and_rewritten(kind: str, bert: Path, n_read: list[str]) -> None:
    weights = bert / "model.safetensors"
    cache_file().parent.mkdir(parents=True)
    cache_file().write_bytes(entries(weights)[kind].encode(errors="surrogateescape"))

    assert file_digest(weights) == sha256(weights)
    assert file_digest(weights) == sha256(weights)
    assert len(n_read) == 1


def test_a_cache_that_cannot_be_written_is_no_error(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_read: list[str]
) -> None:
    # A file where the folder should be: what root, too, cannot write to.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    weights = bert / "model.safetensors"

    assert [file_digest(weights), file_digest(weights)] == [sha256(weights)] * 2
    assert len(n_read) == 2


HOMELESS = """
import os, pwd, sys
from pathlib import Path

def no_entry(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = no_entry
from layerdex.indexer.models.fingerprint import cache_folder, file_digest

print(file_digest(Path(sys.argv[1])))
try:
    print(cache_folder())
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({}, "there is no home directory: set XDG_CACHE_HOME"),
        # The XDG Base Directory Specification has relative folders ignored.
        ({"XDG_CACHE_HOME": "not/absolute"}, "there is no home directory: set XDG_CACHE_HOME"),
        ({"XDG_CACHE_HOME": "not/absolute", "HOME": "/proc/no"}, "/proc/no/.cache/layerdex"),
        ({"HOME": "/proc/nowhere"}, "/proc/nowhere/.cache/layerdex"),
        ({"XDG_CACHE_HOME": "/proc/nowhere"}, "/proc/nowhere/layerdex"),
    ],
)
def test_a_user_without_a_home_has_no_cache(
    variables: dict[str, str], cache: str, bert: Path, tmp_path: Path
) -> None:
    weights = bert / "model.safetensors"
    others = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    result = subprocess.run(
        [sys.executable, "-c", HOMELESS, str(weights)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            **others,
            "PYTHONPATH": str(Path.cwd()) + ":" + others.get("PYTHONPATH", ""),
            **variables,
        },
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [sha256(weights), cache]
    assert not (tmp_path / "not").exists()


def test_a_file_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*nothing: No such file"):
        file_digest(tmp_path / "nothing")
