"""Questions on a GPU: the answers of the CPU, and nothing loaded where there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from layerdex import Index, LabelTask
from layerdex.errors import OptionError
from layerdex.index.search_device import SearchDevice
from layerdex.search.knn.tiles import device as device_module
from layerdex.search.knn.tiles.device import Device, DeviceVectors
from tests.encoders import WordEncoder
from tests.search.small_tiles import use_small_tiles

ON_A_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
ROWS = [
    {
        "id": f"d{i}",
        "text": " ".join(
            f"w{i * factor % modulus}" for factor, modulus in ((1, 7), (3, 11), (5, 23))
        ),
        "label": f"label {i % 3}",
    }
    for i in range(300)
]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    made = Index.create(tmp_path / "index", model=WordEncoder())
    made.add(ROWS)
    return made


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=ON_A_GPU)])
def on_a_device(
    request: pytest.FixtureRequest, index: Index, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Index]:
    """The same index, with small tiles on a device."""
    use_small_tiles(monkeypatch, 16)
    device, used = Device(request.param, n_rows=64, n_columns=100), list[DeviceVectors]()
    make = device_module.DeviceVectors.__init__

    def note(made: DeviceVectors, *given: object) -> None:
        used.append(made)
        make(made, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(device_module.DeviceVectors, "__init__", note)
    opened = Index.open(index.path, encoder=WordEncoder())
    opened._open._choose_device = lambda: device
    yield opened
    assert used


@pytest.mark.parametrize(
    "ask",
    [
        lambda index: index.at(layer="all").search([row["text"] for row in ROWS[:40]], k=7),
        lambda index: index.deduplicate(threshold=0.8),
        lambda index: index.at().suggest_thresholds().steps,
        lambda index: index.evaluate(LabelTask(k=[5, 1]), n_resamples=20).scores,
        lambda index: index.evaluate(LabelTask(sample=60), n_resamples=20).scores,
        lambda index: index.evaluate(LabelTask(folds=3), n_resamples=20).scores,
        lambda index: index.at().find_label_issues().issues,
    ],
    ids=["search", "dedup", "suggest", "evaluate", "sample", "folds", "suspects"],
)
def test_answers_are_those_of_the_cpu(
    ask: Callable[[Index], object], index: Index, on_a_device: Index
) -> None:
    index._open._choose_device = lambda: None
    assert repr(ask(on_a_device)) == repr(ask(index))


def test_the_cpu_is_used_where_no_gpu_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SearchDevice("cpu")() is None
    monkeypatch.setattr("layerdex.index.search_device.choose_devices", None)
    assert SearchDevice("auto")() is None


def test_a_device_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(OptionError, match="cuda:99"):
        SearchDevice("cuda:99")()


def test_a_question_imports_no_torch_for_its_device(index: Index) -> None:
    code = (
        "import sys\nfrom layerdex import Index\n"
        f"index = Index.open({str(index.path)!r})\n"
        "index.search_like('d1'), index.deduplicate()\n"
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
