"""Which documents have labels, without reading them; and the table of a few documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import Index
from layerdex.choices import Operator
from layerdex.errors import DamagedIndexError
from layerdex.predicates import Condition
from layerdex.storage import snapshot as snapshots
from layerdex.storage.catalog import rows as row_reading
from tests.encoders import WordEncoder
from tests.storage.corpora import reopen, rows
from tests.storage.stored import query

UNLABELLED: list[dict[str, object]] = [{"id": f"u{i}", "text": f"unlabelled {i}"} for i in range(5)]
SIZE_BELOW_9 = (Condition("size", Operator.LESS, ("9",)),)


def _labelled(index: Index, also: str = "1") -> list[int]:
    statement = f"SELECT row FROM document WHERE live AND label IS NOT NULL AND {also} ORDER BY row"
    return [row for (row,) in query(index._open.store.path, statement)]


@pytest.fixture
def labelled(index: Index) -> Index:
    """Three segments; labelled, unlabelled, relabelled, updated and dead documents."""
    index.add([*rows(12), *UNLABELLED, *rows(3, start=12)])
    index.add([{"id": "d3", "text": "text number3 of 3", "label": None}])
    index.add([{"id": "u1", "text": "unlabelled 1", "label": "l9"}, {"id": "d4", "text": "new"}])
    index.delete("d7", "u2")
    return index


@pytest.mark.parametrize("compacted", [False, True])
def test_labelled_rows_are_those_of_live_documents_with_a_label(
    labelled: Index, compacted: bool
) -> None:
    if compacted:  # then positions and rows differ
        assert labelled.compact() > 0
    expected = _labelled(labelled)
    assert len(expected) == 14
    found = labelled._open.store.query(lambda snapshot: snapshot.labelled_rows())
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize("compacted", [False, True])
def test_labels_of_live_documents_are_counted_the_most_frequent_first(
    labelled: Index, compacted: bool
) -> None:
    if compacted:
        labelled.compact()
    counted = query(
        labelled._open.store.path,
        "SELECT label, count(*) FROM document WHERE live AND label IS NOT NULL "
        "GROUP BY label ORDER BY count(*) DESC, label",
    )
    counts = labelled._open.store.query(lambda snapshot: snapshot.count_labels())
    assert [*counts.items()] == [*map(tuple, counted)]
    assert "l9" in counts


def test_a_label_of_dead_documents_alone_is_not_counted(labelled: Index) -> None:
    labelled.delete("u1")
    counts = labelled._open.store.query(lambda snapshot: snapshot.count_labels())
    assert set(counts) == {"l0", "l1", "l2"}


def test_labelled_rows_can_be_filtered(labelled: Index) -> None:
    small = "row IN (SELECT row FROM metadatum WHERE name = 'size' AND number < 9)"
    expected = _labelled(labelled, small)
    assert 0 < len(expected) < len(_labelled(labelled))
    found = labelled._open.store.query(lambda snapshot: snapshot.labelled_rows(SIZE_BELOW_9))
    assert found.tolist() == expected


def test_labelled_rows_read_no_document(labelled: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _labelled(labelled)
    reader = reopen(labelled)
    len(reader)  # the dead rows of a commit are checked once

    def check(_: object) -> None:
        raise AssertionError("a version was read")

    monkeypatch.setattr(row_reading, "check_version", check)
    monkeypatch.setattr(snapshots, "fetch_versions", check)
    assert reader._open.store.query(lambda s: s.labelled_rows()).tolist() == expected


def test_empty_index_has_no_labelled_rows(index: Index) -> None:
    with index._open.store.read() as snapshot:
        assert snapshot.labelled_rows().tolist() == []
        assert not snapshot.has_single_label()


def test_labelled_rows_of_a_catalog_with_forged_counts_are_refused(index: Index) -> None:
    index.add(rows(3))
    reader = reopen(index)
    query(index._open.store.path, "DELETE FROM document WHERE id = 'd1'")
    with pytest.raises(DamagedIndexError, match="2 document versions"):
        reader._open.store.query(lambda snapshot: snapshot.labelled_rows())


def test_single_label_counts_live_labelled_documents_only(index: Index) -> None:
    def is_single() -> bool:
        return index._open.store.query(lambda snapshot: snapshot.has_single_label())

    index.add([{"id": "u", "text": "unlabelled"}])
    assert not is_single()
    index.add([{"id": i, "text": f"a {i}", "label": "m"} for i in "bcd"])
    assert is_single()
    index.add(
        [{"id": "low", "text": "low", "label": "a"}, {"id": "high", "text": "h", "label": "z"}]
    )
    assert not is_single()
    index.delete("low")
    assert not is_single()
    index.delete("high")
    assert is_single()
    index.delete("b", "c", "d")
    assert not is_single()


@pytest.fixture(scope="module")
def large(folder: Path) -> Index:
    index = Index.create(folder / "large", model=WordEncoder(depth=1, window=2_000))
    index.add(rows(1_100))
    return index


@pytest.mark.parametrize("n", [0, 1, 300, 1_000])
def test_table_of_rows_is_that_part_of_the_whole_table(large: Index, n: int) -> None:
    whole = large._open.store.query(lambda snapshot: snapshot.document_table())
    at = sorted(np.random.default_rng(0).choice(len(whole.rows), n, replace=False).tolist())
    found: Any = large._open.store.query(lambda snapshot: snapshot.table_of(whole.rows[at]))
    assert found.rows.dtype == np.int64
    assert (found.rows.tolist(), found.ids) == (whole.rows[at].tolist(), [whole.ids[i] for i in at])
    assert found.labels == [whole.labels[i] for i in at]
    assert found.content_hashes == [whole.content_hashes[i] for i in at]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE document SET label = 'other' WHERE row = 2",
        "UPDATE document SET live = 0 WHERE row = 2",
        "DELETE FROM document WHERE row = 2",
    ],
)
def test_table_of_damaged_rows_is_refused(index: Index, change: str) -> None:
    index.add(rows(5))
    query(index._open.store.path, change)
    with pytest.raises(DamagedIndexError, match=r"damaged.*backup"):
        index._open.store.query(lambda snapshot: snapshot.table_of(np.array([1, 2, 3])))
