"""Models whose vectors padding changes: found out when they are loaded, and never padded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from layerdex import Index
from layerdex.choices import Dtype, EngineName
from layerdex.errors import IndexMismatchError, OptionError
from layerdex.indexer.cache.location import cache_folder
from layerdex.indexer.cache.sealed_json import dump_sealed
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.torch import replica
from layerdex.indexer.engines.torch.engine import TorchEngine
from layerdex.indexer.engines.torch.hidden_states import HiddenStates
from layerdex.indexer.text.batches import plan_batches
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.loaded import load
from tests.indexer.plain import cosines, plain_vectors
from tests.results import first
from tests.tiny_models import (
    DEPTH,
    FAMILIES,
    N_POSITIONS,
    UNPADDED,
    save_tiny_model,
    sentence,
)

LAYERS = range(DEPTH + 1)
TEXTS = [sentence(n_words, seed=n_words) for n_words in (3, 30, 4, 11, 12, 3, 25)]


@pytest.mark.parametrize("engine", [EngineName.TORCH, EngineName.AUTO])
@pytest.mark.parametrize("family", UNPADDED)
def test_a_text_has_the_same_vectors_alone_and_among_others(
    tiny_model: TinyModel, family: str, engine: EngineName
) -> None:
    folder = tiny_model(family)
    encoder = load(folder, engine=engine)

    together = encoder.encode(TEXTS, LAYERS).vectors

    assert not encoder.settings.pads
    expected = plain_vectors(folder, TEXTS, max_length=N_POSITIONS)
    assert cosines(together, expected).min() >= 1 - 1e-5


@pytest.mark.parametrize("family", UNPADDED)
def test_padding_would_have_changed_them(tiny_model: TinyModel, family: str) -> None:
    encoder = load(tiny_model(family))
    encoder._settings = dataclasses.replace(encoder.settings, pads=True)

    padded = encoder.encode(TEXTS, LAYERS).vectors

    expected = plain_vectors(tiny_model(family), TEXTS, max_length=N_POSITIONS)
    assert cosines(padded, expected).min() < 0.999


@pytest.mark.parametrize("dtype", [Dtype.FLOAT32, Dtype.BFLOAT16])
@pytest.mark.parametrize("family", FAMILIES)
def test_models_that_mask_padding_are_padded(
    tiny_model: TinyModel, family: str, dtype: Dtype
) -> None:
    assert load(tiny_model(family), dtype=dtype).settings.pads


@pytest.mark.parametrize("family", ["mobilebert", "convbert"])  # torch has no FFT in bfloat16
def test_half_precision_does_not_hide_it(tiny_model: TinyModel, family: str) -> None:
    assert not load(tiny_model(family), dtype=Dtype.BFLOAT16).settings.pads


def test_a_small_change_is_found_in_half_precision_too(tmp_path: Path) -> None:
    folder = save_tiny_model("convbert", tmp_path)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if "conv_kernel_layer" in name or "conv_out_layer" in name:
            weights[name] *= 0.1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    in_half = load(folder, dtype=Dtype.BFLOAT16).settings.pads

    assert not in_half
    assert not load(folder).settings.pads


def test_values_that_are_not_finite_say_nothing_about_padding(tmp_path: Path) -> None:
    folder = save_tiny_model("bert", tmp_path)
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values()))[:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    load(folder)

    assert not (cache_folder() / "padding").exists()


def test_a_model_is_checked_once(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = [load(tiny_model(family)).settings.pads for family in ("bert", "fnet")]
    monkeypatch.setattr(replica, "changes_nothing", None)  # a call of it would fail

    assert verdicts == [True, False]
    assert [load(tiny_model(family)).settings.pads for family in ("bert", "fnet")] == verdicts


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda _: "{}",
        lambda _: "1",
        lambda _: "nonsense",
        lambda content: content.replace("false", "true"),
        lambda _: dump_sealed({"model": "another", "pads": True}).decode(),
    ],
)
def test_a_changed_verdict_is_not_used(tiny_model: TinyModel, change: Callable[[str], str]) -> None:
    load(tiny_model("fnet"))
    (verdict,) = (cache_folder() / "padding").iterdir()
    before = verdict.read_text()
    verdict.write_text(change(before))

    assert not load(tiny_model("fnet")).settings.pads
    assert verdict.read_text() == before


def test_a_model_that_fails_on_padded_texts_is_not_padded(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = HiddenStates.run

    def fail_when_padded(self: HiddenStates, inputs, layers, receive) -> None:  # type: ignore[no-untyped-def]
        if not bool(inputs["attention_mask"].all()):
            raise RuntimeError("cannot be padded")
        run(self, inputs, layers, receive)

    monkeypatch.setattr(HiddenStates, "run", fail_when_padded)
    encoder = load(tiny_model("bert"))

    assert not encoder.settings.pads
    assert encoder.encode(TEXTS, LAYERS).vectors.shape[1] == len(TEXTS)


def test_a_stored_text_is_found_verbatim(
    tiny_model: TinyModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = Index.create(tmp_path, model=str(tiny_model("fnet")), runtime=loaded.TORCH)
    assert "only texts of equal length" in caplog.text
    index.add([{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])

    assert not Index.open(tmp_path).info().encoder.pads
    for layer in LAYERS:
        for text in TEXTS:
            hit = first(index.search(text, k=1, layer=layer))[0]
            assert hit.similarity == pytest.approx(1, abs=1e-6)


def test_an_index_made_with_padding_is_not_mixed(tiny_model: TinyModel) -> None:
    settings = dataclasses.replace(load(tiny_model("fnet")).settings, pads=True)

    with pytest.raises(IndexMismatchError, match=r"padding changes.*make a new index"):
        TransformerEncoder.for_index(settings, runtime=loaded.TORCH)


def test_an_index_made_without_padding_stays_so(tiny_model: TinyModel) -> None:
    # Another machine's verdict may differ: the index's own decides, so that bytes repeat.
    settings = dataclasses.replace(load(tiny_model("bert")).settings, pads=False)

    assert not TransformerEncoder.for_index(settings, runtime=loaded.TORCH).settings.pads


def test_batches_that_are_not_padded_hold_texts_of_one_length() -> None:
    lengths = np.array([3, 5, 3, 4, 5, 5, 3], dtype=np.int32)

    batches = plan_batches(lengths, token_budget=10, pads=False)

    assert [lengths[batch].tolist() for batch in batches] == [[3, 3, 3], [4], [5, 5], [5]]


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_a_converted_graph_that_fails_on_some_lengths_is_not_used(tiny_model: TinyModel) -> None:
    with pytest.raises(OptionError, match="use --engine torch"):
        load(tiny_model("yoso"), engine=EngineName.OPENVINO)

    assert isinstance(load(tiny_model("yoso"), engine=EngineName.AUTO).engine, TorchEngine)
