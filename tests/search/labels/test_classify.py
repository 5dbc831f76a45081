"""The nearest labelled documents, found without reading every labelled one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layerdex.choices import Operator, Weights
from layerdex.errors import NoLabelsError
from layerdex.predicates import Condition
from layerdex.records import Rows
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.labels.classify import classify_texts, find_labelled
from layerdex.search.targets import SearchTarget
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from tests.search.brute_force import assert_nearest
from tests.search.stores import add, create, random_codes, unit_codes

_N, _WIDTH = 700, 16
QUERIES = unit_codes(np.random.default_rng(9).standard_normal((30, _WIDTH))).astype(np.float32)
HALF = (Condition("half", Operator.EQUAL, ("1",)),)


def label_of(i: int, one_in: int) -> str | None:
    return f"l{i % 7}" if i % one_in == 0 else None


@pytest.fixture(scope="module", params=[1, 3, 49])
def labelled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, int]:
    """Documents of which one in so many has a label, in three segments."""
    one_in: int = request.param
    store = create(tmp_path_factory.mktemp("labelled") / "index", width=_WIDTH)
    codes = random_codes(_N, _WIDTH, seed=3)
    for numbers in (range(300), range(300, 301), range(301, _N)):
        add(
            store,
            codes[numbers.start : numbers.stop],
            labels=[label_of(i, one_in) for i in numbers],
            metadata=[{"half": i % 2} for i in numbers],
        )
    return store, one_in


def space_where(*where: Condition) -> VectorSpace:
    return VectorSpace(SearchTarget((0,), where=where))


@pytest.mark.parametrize("where", [(), HALF])
@pytest.mark.parametrize("k", [1, 10, 60, 1_000])
@pytest.mark.parametrize("n_queries", [1, 30])
def test_neighbours_are_those_of_a_search_among_labelled_documents(
    labelled: tuple[Store, int], where: tuple[Condition, ...], k: int, n_queries: int
) -> None:
    store, one_in = labelled
    queries = QUERIES[:n_queries]
    positions = np.array(
        [i for i in range(_N) if i % one_in == 0 and (not where or i % 2 == 1)], dtype=np.int64
    )

    def question(snapshot: Snapshot) -> None:
        neighbors, table = find_labelled(snapshot, {0: queries}, space_where(*where), k)
        codes = random_codes(_N, _WIDTH, seed=3)[positions]
        assert_nearest(neighbors, queries, positions + 1, codes, k)
        labels = dict(zip(table.rows.tolist(), table.labels, strict=True))
        assert {int(row) for row in neighbors.rows.ravel()} <= set(labels)
        for row in neighbors.rows.ravel().tolist():
            assert labels[row] == label_of(row - 1, one_in)

    store.query(question)


def test_only_the_rows_of_neighbours_are_read(
    labelled: tuple[Store, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, one_in = labelled
    read: list[int] = []
    table_of = Snapshot.table_of

    def recorded(self: Snapshot, rows: Rows) -> object:
        read.append(len(rows))
        return table_of(self, rows)

    monkeypatch.setattr(Snapshot, "table_of", recorded)
    monkeypatch.delattr(Snapshot, "document_table")
    if one_in < 49:  # enough labels among the nearest: not even their rows are looked up
        monkeypatch.delattr(Snapshot, "labelled_rows")
    predictions = store.query(
        lambda snapshot: classify_texts(
            snapshot, ["text"], {0: QUERIES[:1]}, space=space_where(), k=5, weights=Weights.DISTANCE
        )
    )
    assert len(predictions[0].neighbors) == 5
    assert sum(read) <= {1: 5, 3: 5 + 100, 49: 5 + 100 + 5}[one_in]


@pytest.mark.parametrize("where", [(), HALF])
def test_without_labels_nothing_is_predicted(tmp_path: Path, where: tuple[Condition, ...]) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    add(store, random_codes(20, _WIDTH), metadata=[{"half": i % 2} for i in range(20)])
    with pytest.raises(NoLabelsError, match="has a label"):
        store.query(
            lambda snapshot: find_labelled(snapshot, {0: QUERIES[:1]}, space_where(*where), 3)
        )
