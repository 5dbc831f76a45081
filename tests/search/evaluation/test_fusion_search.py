"""Proposed fusions: the layers that help are taken, and the gain is measured elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from layerdex.errors import NoLabelsError
from layerdex.search.evaluation.classification import split
from layerdex.search.evaluation.fusion_search import FusionProposal, propose_fusion
from layerdex.search.evaluation.results import VotingOptions
from layerdex.storage.store import Store
from tests.search.brute_force import cosines, read_live
from tests.search.stores import add, create, unit_codes

_WIDTH, _N = 12, 240


def fill(path: Path, *, seed: int = 0) -> tuple[Store, list[str]]:
    """Four labels: layer 0 tells the first two pairs apart, layer 2 the members; 1 is noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(4, size=_N)
    pairs, members = random.standard_normal((2, 2, _WIDTH))
    layers = [
        pairs[labels // 2] + 0.5 * random.standard_normal((_N, _WIDTH)),
        random.standard_normal((_N, _WIDTH)),
        members[labels % 2] + 0.5 * random.standard_normal((_N, _WIDTH)),
    ]
    store = create(path / "index", width=_WIDTH, n_layers=3)
    names = [f"label{one}" for one in labels]
    add(store, unit_codes(np.stack(layers)), labels=names)
    return store, names


def propose(store: Store) -> FusionProposal:
    return store.query(
        lambda snapshot: propose_fusion(
            snapshot.layer,
            snapshot.document_table(labelled=True),
            VotingOptions((5,)),
            layers=store.layers,
        )
    )


def test_layers_that_complete_each_other_are_taken_and_noise_is_not(tmp_path: Path) -> None:
    found = propose(fill(tmp_path)[0])
    assert found.layers == (0, 2)
    assert [len(step.layers) for step in found.steps] == [1, 2]
    assert found.steps[1].macro_f1 > found.steps[0].macro_f1
    assert found.n == _N
    assert abs(found.n_held_out - _N // 4) <= 2
    assert found.gain_interval.low > 0


def test_the_gain_is_that_of_documents_that_chose_nothing(tmp_path: Path) -> None:
    store, names = fill(tmp_path)
    found = propose(store)
    codes = np.unique(names, return_inverse=True)[1]
    parts = split(codes, np.arange(_N), 4)
    labelled_neighbors, asked = parts != 0, parts == 0
    predicted = {}
    for layers in (found.layers, (found.single,)):
        similarities = np.mean(
            [
                cosines(
                    (stored := read_live(store.path, layer)[1])[asked], stored[labelled_neighbors]
                )
                for layer in layers
            ],
            axis=0,
        )
        nearest = np.argsort(-np.round(similarities, 5), axis=1, kind="stable")[:, :5]
        votes = []
        for i, of_one in enumerate(nearest):
            weight = np.zeros(4)
            for j in of_one:
                weight[codes[labelled_neighbors][j]] += 1 / (1 - similarities[i, j])
            votes.append(int(weight.argmax()))
        predicted[len(layers)] = votes
    assert found.fused.accuracy == pytest.approx(accuracy_score(codes[asked], predicted[2]))
    assert found.alone.accuracy == pytest.approx(accuracy_score(codes[asked], predicted[1]))
    fused, alone = (f1_score(codes[asked], predicted[n], average="macro") for n in (2, 1))
    assert found.gain == pytest.approx(fused - alone)
    assert found.gain_interval.low < found.gain < found.gain_interval.high


def test_where_no_layer_helps_one_stays_alone(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH, n_layers=2)
    random = np.random.default_rng(0)
    labels = random.integers(2, size=_N)
    clear = random.standard_normal((2, _WIDTH))[labels] + 0.1 * random.standard_normal((_N, _WIDTH))
    noise = random.standard_normal((_N, _WIDTH))
    add(store, unit_codes(np.stack([noise, clear])), labels=[str(one) for one in labels])
    found = propose(store)
    assert (found.layers, found.single, found.gain) == ((1,), 1, 0)


def test_one_label_is_an_error(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH, n_layers=2)
    random = np.random.default_rng(0)
    add(store, unit_codes(random.standard_normal((2, 9, _WIDTH))), labels=["a"] * 9)
    with pytest.raises(NoLabelsError):
        propose(store)
