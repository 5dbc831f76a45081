"""When training stops, and which weights it keeps."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from layerdex.choices import Pooling
from layerdex.errors import ModelError, OptionError
from layerdex.indexer.models.model_folder import find_model
from layerdex.indexer.training.plan import Plan, Trained
from layerdex.records import EncoderSettings
from tests.indexer import loaded
from tests.tiny_models import WIDTH, save_tiny_model, sentence

N = 40
TEXTS = [sentence(5, seed=i) for i in range(N)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("peft") is None:
        pytest.skip("peft is not installed")
    return save_tiny_model("bert", tmp_path_factory.mktemp("model") / "bert")


def train(model: Path, accuracies: list[float], target: Path, *, patience: int = 2) -> Trained:
    """Train on two labels with fixed held-out accuracies."""
    from layerdex.indexer.training.trainer import Trainer

    settings = EncoderSettings(
        model=str(model),
        revision=None,
        pooling=Pooling.MASK,
        template="{text} is {mask}",
        max_length=12,
        depth=4,
        width=WIDTH,
        fingerprint="",
        token_budget=64,
        window=64,
    )
    plan = Plan(rank=1, n_epochs=9, patience=patience, batch_size=8)
    trainer = Trainer(
        find_model(str(model)),
        settings,
        layer=2,
        plan=plan,
        runtime=loaded.TORCH,
    )
    results = iter(accuracies)
    trained = trainer.train(
        TEXTS,
        np.arange(N) % 2,
        training=np.arange(0, 30),
        held_out=np.arange(30, N),
        directions=np.eye(2, WIDTH, dtype=np.float32),
        judge=lambda _training, _held_out: next(results),
    )
    target.mkdir()
    trainer.write(target)
    return trained


def test_training_ends_when_nothing_gets_better(model: Path, tmp_path: Path) -> None:
    trained = train(model, [0.5, 0.7, 0.7, 0.6, 0.9], tmp_path / "stopped")
    assert [epoch.accuracy for epoch in trained.epochs] == [0.5, 0.7, 0.7, 0.6]
    assert trained.best_epoch == 2
    # The weights are those after the second epoch, whatever comes later.
    assert train(model, [0.5, 0.7, 0.1], tmp_path / "same", patience=1).best_epoch == 2
    assert train(model, [0.5, 0.4, 0.3], tmp_path / "first").best_epoch == 1
    names = ("stopped", "same", "first")
    saved = [(tmp_path / one / "adapter_model.safetensors").read_bytes() for one in names]
    assert saved[0] == saved[1] != saved[2]


def test_a_lost_training_says_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerdex.indexer.training.losses.TEMPERATURE", float("nan"))
    with pytest.raises(ModelError, match="lower --rate"):
        train(model, [0.5] * 9, tmp_path / "lost")


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 0), ("n_epochs", 0), ("batch_size", 1), ("learning_rate", 2.0), ("seed", -1)],
)
def test_plans_are_held_to_their_ranges(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=name):
        Plan(**{name: value})  # type: ignore[arg-type]
