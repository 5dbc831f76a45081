"""Adapting the encoder: what is trained and written, and what an index makes of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from layerdex import EncoderOptions, Index, LabelTask, RuntimeOptions
from layerdex.choices import Dtype, EngineName, Loss
from layerdex.errors import IndexMismatchError, MissingPackageError, ModelError, OptionError
from layerdex.index.training import Tuning
from layerdex.indexer.models.adapters import find_adapter, import_peft
from layerdex.indexer.models.fingerprint import model_digest, read_contents
from layerdex.indexer.training.plan import Plan
from tests.results import first
from tests.tiny_models import WORDS, save_tiny_model

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
LAYER = 3
PLAN = Plan(rank=2, n_epochs=5, batch_size=16, learning_rate=2e-2, dropout=0.0)
Documents = list[dict[str, Any]]


def make_documents(n: int, *, seed: int) -> Documents:
    """Return texts of random words, of which one decides the label."""
    random = np.random.default_rng(seed)
    documents = []
    for i in range(n):
        words = [str(word) for word in random.choice(WORDS[:20], size=6)]
        words[int(random.integers(6))] = ("water", "answer")[i % 2]
        documents.append({"id": str(i), "text": " ".join(words), "label": "wa"[i % 2]})
    return documents


DOCUMENTS, TEST = make_documents(160, seed=0), make_documents(40, seed=1)


@dataclass(frozen=True)
class Scene:
    """A model, an index of it, and what tuning that gave."""

    model: Path
    index: Index
    tuning: Tuning


TORCH = RuntimeOptions(engine=EngineName.TORCH, dtype=Dtype.FLOAT32)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("tuning")
    model = save_tiny_model("bert", folder / "bert")
    index = Index.create(
        folder / "index",
        model=str(model),
        runtime=TORCH,
    )
    index.add(DOCUMENTS)
    return Scene(model, index, tune(index, folder / "adapter", test=TEST))


def tune(index: Index, target: Path, **options: Any) -> Tuning:
    given = {"layer": LAYER, "plan": PLAN, "folds": 4, "runtime": TORCH}
    return index.tune(target, **{**given, **options})


def indexed(scene: Scene, path: Path, *, adapter: Path | None = None) -> Index:
    adapter = adapter or scene.tuning.adapter
    index = Index.create(
        path,
        model=EncoderOptions(model=str(scene.model), adapter=str(adapter)),
        runtime=TORCH,
    )
    index.add(DOCUMENTS)
    return index


def test_an_adapter_can_be_read_by_whoever_reads_its_folder(scene: Scene) -> None:
    modes = {file.stat().st_mode for file in scene.tuning.adapter.iterdir()}
    assert len(modes) == 1


def test_no_adapter_makes_peft_ask_a_hub(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = shutil.copytree(scene.tuning.adapter, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "a-name-and-no-folder"
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")

    def query(*_: object, **__: object) -> bool:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", query)

    assert len(indexed(scene, tmp_path / "index", adapter=adapter)) == len(DOCUMENTS)


def pooled(scene: Scene, texts: list[str]) -> NDArray[np.float32]:
    """Return (layers, n, width) by plain transformers and peft, the adapter not merged."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(scene.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = import_peft().PeftModel.from_pretrained(model, str(scene.tuning.adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(scene.model)
    found = []
    for text in texts:
        with torch.no_grad():
            output = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        found.append(torch.stack(output.hidden_states)[:, 0].mean(dim=1))
    return torch.nn.functional.normalize(torch.stack(found, dim=1), dim=-1).numpy()


def test_unseen_texts_are_classified_better(scene: Scene) -> None:
    tuning = scene.tuning
    before, after = (one.at(LAYER).values["accuracy"] for one in (tuning.before, tuning.after))
    assert before < 0.8
    assert after > before + 0.1
    at_zero = (tuning.before.at(0), tuning.after.at(0))
    assert at_zero[0].values == at_zero[1].values  # no block lies below it
    assert [one.layer for one in tuning.after.scores] == [0, 1, 2, 3]


def test_the_loss_falls_and_the_best_epoch_is_kept(scene: Scene) -> None:
    trained = scene.tuning.trained
    assert trained.epochs[-1].loss < trained.epochs[0].loss
    accuracies = [epoch.accuracy for epoch in trained.epochs]
    assert trained.best_epoch == 1 + int(np.argmax(accuracies))
    assert len(trained.losses) == len(trained.epochs) * (120 // 16)


def test_parameters_are_counted(scene: Scene) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(scene.model)
    cut = [*model.embeddings.parameters(), *model.encoder.layer[:LAYER].parameters()]
    adapter = sum(one.size for one in load_file(weights(scene.tuning.adapter)).values())
    head = 2 * 32
    trained = scene.tuning.trained
    assert trained.n_trained == adapter + head
    assert trained.n_parameters == sum(one.numel() for one in cut) + adapter + head
    assert trained.share == trained.n_trained / trained.n_parameters


def weights(adapter: Path) -> Path:
    return adapter / "adapter_model.safetensors"


def test_blocks_above_the_layer_are_left_alone(scene: Scene) -> None:
    names = load_file(weights(scene.tuning.adapter))
    blocks = {name.split("encoder.layer.")[1].split(".")[0] for name in names}
    assert blocks == {"0", "1", "2"}


def test_an_index_merges_the_adapter(scene: Scene, tmp_path: Path) -> None:
    index = indexed(scene, tmp_path / "tuned")
    texts = [document["text"] for document in TEST[:8]]
    found = index.encoder.encode(texts, range(5)).vectors
    np.testing.assert_allclose(found, pooled(scene, texts), atol=1e-5)
    plain = scene.index.encoder.encode(texts, range(5)).vectors
    assert np.abs(found[LAYER] - plain[LAYER]).max() > 0.05
    np.testing.assert_array_equal(found[0], plain[0])
    measured = index.evaluate(LabelTask(test=TEST), layer=[0, 1, 2, 3]).scores
    assert [one.values for one in measured] == [one.values for one in scene.tuning.after.scores]


def test_an_index_remembers_its_adapter(scene: Scene, tmp_path: Path) -> None:
    moved = tmp_path / "adapter"
    shutil.copytree(scene.tuning.adapter, moved)
    path = tmp_path / "tuned"
    made = indexed(scene, path, adapter=moved)
    settings = made._open.store.settings
    assert settings.adapter == str(moved)
    assert settings.fingerprint != scene.index._open.store.settings.fingerprint
    assert (
        first(
            Index.open(path, runtime=RuntimeOptions(engine=EngineName.TORCH)).search(
                DOCUMENTS[3]["text"], k=1
            )
        )[0].id
        == "3"
    )
    moved.rename(tmp_path / "elsewhere")
    with pytest.raises(
        ModelError, match="which is not there: if it has moved, name its folder with --adapter"
    ):
        first(Index.open(path, runtime=RuntimeOptions(engine=EngineName.TORCH)).search("water"))
    again = Index.open(
        path, adapter=str(tmp_path / "elsewhere"), runtime=RuntimeOptions(engine=EngineName.TORCH)
    )
    assert first(again.search(DOCUMENTS[3]["text"], k=1))[0].id == "3"


def test_another_adapter_is_another_encoder(scene: Scene, tmp_path: Path) -> None:
    path, adapter = tmp_path / "tuned", tmp_path / "adapter"
    shutil.copytree(scene.tuning.adapter, adapter)
    indexed(scene, path, adapter=adapter)
    changed = {name: one * 1.01 for name, one in load_file(weights(adapter)).items()}
    save_file(changed, weights(adapter))
    with pytest.raises(IndexMismatchError):
        first(Index.open(path, runtime=RuntimeOptions(engine=EngineName.TORCH)).search("water"))
    contents = read_contents(scene.model)
    made = contents.with_adapter(scene.tuning.adapter)
    assert model_digest(contents.with_adapter(adapter)) != model_digest(made)
    with pytest.raises(IndexMismatchError):
        first(
            Index.open(
                scene.index._open.store.path,
                adapter=str(adapter),
                runtime=RuntimeOptions(engine=EngineName.TORCH),
            ).search("water")
        )


def test_another_adapter_in_its_folder_is_noticed_when_the_index_is_opened(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, adapter = tmp_path / "tuned", tmp_path / "adapter"
    shutil.copytree(scene.tuning.adapter, adapter)
    indexed(scene, path, adapter=adapter)
    Index.open(path)
    assert "adapter" not in caplog.text

    changed = {name: one * 1.01 for name, one in load_file(weights(adapter)).items()}
    save_file(changed, weights(adapter))
    assert len(Index.open(path).search_like("3", k=1)) == 1
    assert f"the adapter {str(adapter)!r}, or its model, is another one" in caplog.text

    caplog.clear()
    Index.open(path, adapter=str(scene.tuning.adapter))
    assert "adapter" not in caplog.text

    (adapter / "adapter_config.json").unlink()
    Index.open(path)
    said = f"texts cannot be encoded for this index: {str(adapter)!r} is not an adapter"
    assert said in caplog.text

    caplog.clear()
    shutil.rmtree(adapter)
    Index.open(path)
    assert "adapter" not in caplog.text


def test_the_same_seed_gives_the_same_adapter(scene: Scene, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    plan = Plan(loss=Loss.CONTRASTIVE, rank=1, n_epochs=1, batch_size=16, seed=3)
    made = [tune(scene.index, tmp_path / name, plan=plan, layer=1) for name in "ab"]
    first, second = (weights(one.adapter).read_bytes() for one in made)
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert not made[0].is_test
    assert made[0].after.n == made[0].n_held_out == 40


def _without_weights(folder: Path) -> None:
    weights(folder).rename(folder / "adapter_model.bin")


def _of_another_base(folder: Path) -> None:
    about = json.loads((folder / "layerdex.json").read_text())
    (folder / "layerdex.json").write_text(json.dumps({**about, "base_digest": "0" * 32}))


def _of_another_kind(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "LOHA"}))


def _with_a_weight_too_few(folder: Path) -> None:
    found = load_file(weights(folder))
    found.pop(sorted(found)[0])
    save_file(found, weights(folder))


def _cut(folder: Path) -> None:
    weights(folder).write_bytes(weights(folder).read_bytes()[:-40])


def _not_fetched(folder: Path) -> None:
    weights(folder).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no adapter folder '.*/adapter'"),
        (_without_weights, "it has no file adapter_model.safetensors"),
        (_of_another_base, "was trained on another model"),
        (_of_another_kind, "'LOHA' adapter"),
        (_with_a_weight_too_few, "does not fit this model"),
        (_cut, r"cannot load the adapter '.*': .*/adapter/adapter_model.safetensors: "),
        (_not_fetched, "adapter_model.safetensors is a pointer of Git LFS"),
    ],
)
def test_a_wrong_adapter_is_refused(
    scene: Scene, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(scene.tuning.adapter, adapter)
    damage(adapter)
    with pytest.raises(ModelError, match=message):
        indexed(scene, tmp_path / "tuned", adapter=adapter)


def test_an_adapter_of_a_layer_beyond_is_refused(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="layer 0 has no encoder blocks"):
        tune(scene.index, tmp_path / "new", layer=0)
    with pytest.raises(OptionError, match="is not UTF-8"):
        tune(scene.index, tmp_path / os.fsdecode(b"ad\xe4pter"))
    with pytest.raises(OptionError, match="exists already"):
        tune(scene.index, scene.tuning.adapter)
    with pytest.raises(OptionError, match="there is no folder"):
        tune(scene.index, tmp_path / "no" / "such")
    with pytest.raises(OptionError, match="has an adapter already"):
        tune(indexed(scene, tmp_path / "tuned"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_peft_the_extra_is_named(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'layerdex\[tune\]'"):
        tune(scene.index, tmp_path / "new")
    with pytest.raises(MissingPackageError, match=r"pip install 'layerdex\[tune\]'"):
        indexed(scene, tmp_path / "tuned")
    made = scene.tuning.adapter
    assert find_adapter(str(made), base=read_contents(scene.model)) == made
