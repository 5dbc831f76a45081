from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch

from layerdex.choices import Dtype
from layerdex.errors import ModelError
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.protocol import Batch
from layerdex.indexer.engines.torch import engine as torch_engine_file
from layerdex.indexer.engines.torch.workers import start_workers
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import torch_engine
from tests.tiny_models import DEPTH, FAMILIES, sentence

TEXTS = [sentence(1 + i % 37, seed=i) for i in range(60)]
CPU = torch.device("cpu")


@pytest.fixture
def three_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU pass for three devices, so that the engine makes three replicas."""
    monkeypatch.setattr(torch_engine_file, "choose_devices", lambda _name: (CPU, CPU, CPU))


def load(folder: Path) -> TransformerEncoder:
    return loaded.load(folder, token_budget=64, dtype=Dtype.AUTO)


@pytest.mark.parametrize("family", FAMILIES)
def test_workers_give_the_bytes_of_one_thread(
    family: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(family)
    alone = load(folder)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    together = load(folder)
    monkeypatch.undo()
    torch.set_num_threads(1)

    assert [one.n_workers for one in torch_engine(alone)._replicas] == [1]
    assert [one.n_workers for one in torch_engine(together)._replicas] == [3]
    for layers in (range(DEPTH + 1), (0, 2)):
        found, expected = (one.encode(TEXTS, layers).vectors for one in (together, alone))
        np.testing.assert_array_equal(found, expected)


def test_a_workers_error_comes_through(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    encoder = load(tiny_model("bert"))
    monkeypatch.undo()
    torch.set_num_threads(1)

    def fail(*_args: object) -> None:
        raise ModelError("out of order")

    monkeypatch.setattr(torch_engine(encoder)._replicas[0].states, "run", fail)
    with pytest.raises(ModelError, match="out of order"):
        encoder.encode(TEXTS, [1])


def test_a_worker_that_cannot_start_is_an_error_and_no_endless_wait(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    n_asked = []

    def fail_second(_device: torch.device) -> None:
        n_asked.append(1)
        if len(n_asked) == 2:
            raise RuntimeError("CUDA error: device is busy")

    monkeypatch.setattr(torch.cuda, "set_device", fail_second)
    n_threads = torch.get_num_threads()
    failed: list[Exception] = []

    def start() -> None:
        try:
            start_workers(3, n_threads_each=1, device=torch.device("cuda", 1))
        except Exception as error:
            failed.append(error)

    thread = Thread(target=start, daemon=True)
    thread.start()
    thread.join(timeout=60)

    assert not thread.is_alive()
    with pytest.raises(ModelError, match="worker on cuda:1: CUDA error: device is busy") as caught:
        raise failed[0]
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert torch.get_num_threads() == n_threads
    assert capfd.readouterr().err == ""


def test_replicas_give_the_bytes_of_one(
    tiny_model: TinyModel, request: pytest.FixtureRequest
) -> None:
    folder = tiny_model("bert")
    expected = load(folder).encode(TEXTS, range(DEPTH + 1)).vectors
    request.getfixturevalue("three_devices")
    encoder = load(folder)

    found = [encoder.encode(TEXTS, range(DEPTH + 1)).vectors for _ in range(2)]

    modules = {id(one.module) for one in torch_engine(encoder)._replicas}
    assert len(modules) == 3
    for one in found:
        np.testing.assert_array_equal(one, expected)


def batches_of(n_batches: int) -> Iterator[Batch]:
    """Yield batches of one text, each with its own ids; indices count from 0."""
    for i in range(n_batches):
        ids = np.full((1, 3 + i % 5), 10 + i, dtype=np.int64)
        yield Batch(np.array([i]), ids, np.ones_like(ids), None)


@pytest.mark.usefixtures("three_devices")
def test_each_replica_gets_every_third_batch_and_order_is_kept(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = torch_engine(load(tiny_model("bert")))
    list(engine.pool(batches_of(2), (1,)))  # loads the replicas
    others_ran = Event()
    taken: dict[int, list[int]] = {}
    for number, replica in enumerate(engine._replicas):
        run = replica._run

        def note(
            batch: Batch, layers: tuple[int, ...], number: int = number, run: object = run
        ) -> object:
            taken.setdefault(number, []).append(int(batch.indices[0]))
            if number == 0:  # the first device is the slowest
                others_ran.wait(timeout=60)
            else:
                others_ran.set()
            return run(batch, layers)  # type: ignore[operator]

        monkeypatch.setattr(replica, "_run", note)

    indices = [int(indices[0]) for indices, _ in engine.pool(batches_of(20), (1,))]

    assert indices == list(range(20))
    assert taken == {number: list(range(number, 20, 3)) for number in range(3)}


@pytest.mark.usefixtures("three_devices")
def test_a_question_loads_no_second_replica(tiny_model: TinyModel) -> None:
    encoder = load(tiny_model("bert"))

    encoder.encode(["what is bright"], [1])

    assert len(torch_engine(encoder)._replicas) == 1


@pytest.mark.usefixtures("three_devices")
def test_after_an_error_nothing_is_left_at_work(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny_model("bert"))
    engine = torch_engine(encoder)
    expected = encoder.encode(TEXTS, [1]).vectors

    def fail(*_args: object) -> None:
        raise ModelError("out of order")

    with monkeypatch.context() as patch:
        patch.setattr(engine._replicas[1], "_run", fail)
        with pytest.raises(ModelError, match="out of order"):
            encoder.encode(TEXTS, [1])

    for replica in engine._replicas:
        assert replica._workers is not None
        assert replica._workers._work_queue.empty()
    np.testing.assert_array_equal(encoder.encode(TEXTS, [1]).vectors, expected)
