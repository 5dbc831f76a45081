"""Changed rows of the catalog: never part of an answer."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from layerdex import Index, LabelTask
from layerdex.errors import DamagedIndexError
from tests.encoders import WordEncoder
from tests.results import first
from tests.storage.corpora import reopen, rows
from tests.storage.redigest import redigest
from tests.storage.stored import query

CHANGES = [
    "UPDATE document SET id = 'd99' WHERE row = 2",
    "UPDATE document SET label = 'l0' WHERE row = 2",
    "UPDATE document SET label = NULL WHERE row = 2",
    "UPDATE document SET ordinal = 77 WHERE row = 2",
    "UPDATE document SET n_characters = 1 WHERE row = 2",
    "UPDATE document SET n_characters = 'x' WHERE row = 2",
    "UPDATE document SET n_tokens = 1 WHERE row = 2",
    "UPDATE document SET truncated = 1 WHERE row = 2",
    "UPDATE document SET n_unknown = 0 WHERE row = 2",
    "UPDATE document SET n_unknown = 'x' WHERE row = 2",
    "UPDATE document SET unreadable = 1 WHERE row = 2",
    "UPDATE document SET content_hash = 'text' WHERE row = 2",
    "UPDATE document SET content_hash = x'00' WHERE row = 2",
    "UPDATE document SET metadata_digest = 0 WHERE row = 2",
    "UPDATE document SET digest = 0 WHERE row = 2",
    "UPDATE document SET row = 99 WHERE row = 2",
    "UPDATE document_text SET text = 'text number1 of 2' WHERE row = 2",
    "UPDATE metadatum SET text = '3' WHERE row = 2",
    "UPDATE metadatum SET number = 3 WHERE row = 2",
    "UPDATE metadatum SET kind = 'text' WHERE row = 2",
    "UPDATE metadatum SET name = 'weight' WHERE row = 2",
    "DELETE FROM metadatum WHERE row = 2",
    "INSERT INTO metadatum VALUES (2, 'new', 'text', 'x', NULL)",
    "INSERT INTO metadatum VALUES (2, x'6e6577', 'text', 'x', NULL)",
    "UPDATE metadatum SET number = 'x' WHERE row = 2",
    "UPDATE document_text SET text = CAST(text AS BLOB) WHERE row = 2",
]
LIVENESS = [
    "UPDATE document SET live = 0 WHERE row = 2",
    "UPDATE document SET live = 1 WHERE row = 3",
]
OF_BEST_LAYER = "UPDATE setting SET value = '{\"layer\": 1}' WHERE key = 'best_layer'"
OF_SEGMENTS = [
    "UPDATE segment SET first_row = 2 WHERE id = 1",
    "UPDATE segment SET last_row = 9 WHERE id = 1",
    "UPDATE segment SET n_documents = 7 WHERE id = 1",
    "UPDATE segment SET name = '0123456789abcdef' WHERE id = 1",
    "UPDATE segment_file SET crc32 = 5 WHERE segment_id = 1 AND layer = 2",
    "UPDATE segment_file SET block_hashes = x'0102030405060708' WHERE segment_id = 1 AND layer = 2",
    "UPDATE segment_file SET block_hashes = NULL WHERE segment_id = 1 AND layer = 2",
    "UPDATE segment_file SET layer = 9 WHERE segment_id = 1 AND layer = 2",
    "DELETE FROM segment_file WHERE segment_id = 1 AND layer = 2",
    OF_BEST_LAYER,
    "UPDATE setting SET value = '[0, 1]' WHERE key = 'layers'",
    "UPDATE setting SET key = 'best' WHERE key = 'commits'",
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows 1 to 9, of which row 3 (d2) is dead, in two segments, with a best layer."""
    index = Index.create(tmp_path_factory.mktemp("sound") / "index", model=WordEncoder())
    index.add(rows(9))
    index.delete("d2")
    index.save_best(index.evaluate(LabelTask(k=1)))
    return index.path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "index"))


@pytest.fixture
def index(path: Path) -> Index:
    return Index.open(path, encoder=WordEncoder())


@pytest.mark.parametrize("change", [*CHANGES, *LIVENESS])
def test_changed_document_is_never_an_answer(index: Index, path: Path, change: str) -> None:
    query(path, change)
    for question in (
        lambda: first(reopen(index).search("text number1 of 1", k=9)),
        lambda: list(reopen(index).documents()),
    ):
        with pytest.raises(DamagedIndexError, match=r"catalog.*damaged.*backup"):
            question()


@pytest.mark.parametrize("change", [*CHANGES, *LIVENESS])
def test_verification_finds_a_changed_document(index: Index, path: Path, change: str) -> None:
    query(path, change)
    try:
        problems = Index.open(path, damaged=True).verify()
    except DamagedIndexError:
        return
    assert problems
    assert all("catalog" in str(problem) for problem in problems)


@pytest.mark.parametrize("change", CHANGES[:12] + LIVENESS)
def test_table_with_a_changed_document_is_refused(index: Index, path: Path, change: str) -> None:
    query(path, change)
    for question in (
        lambda: reopen(index).evaluate(LabelTask(k=1)),
        lambda: reopen(index).deduplicate(),
    ):
        with pytest.raises(DamagedIndexError, match=r"damaged.*backup"):
            question()


@pytest.mark.parametrize("change", OF_SEGMENTS)
def test_changed_segment_or_setting_is_found(index: Index, path: Path, change: str) -> None:
    query(path, change)
    with pytest.raises(DamagedIndexError, match=r"damaged.*backup"):
        first(reopen(index).search("text number1 of 1"))


@pytest.mark.parametrize("change", CHANGES[:12])
def test_writer_does_not_give_a_damaged_row_a_fresh_digest(
    index: Index, path: Path, change: str
) -> None:
    identifier = "d99" if "d99" in change else "d1"
    query(path, change)
    before = query(path, "SELECT * FROM document")
    with pytest.raises(DamagedIndexError, match="row 2 "):
        index.add([{"id": identifier, "text": "text number1 of 1", "label": "other"}])
    with pytest.raises(DamagedIndexError, match="row 2 "):
        index.delete(identifier)
    assert query(path, "SELECT * FROM document") == before


def test_compaction_and_deletion_keep_digests(index: Index, path: Path) -> None:
    index.add([{"id": "d1", "text": "text number1 of 1", "label": "new", "zero": -0.0}])
    index.add([{"id": "d4", "text": "another text"}])
    index.delete("d5", "d6")
    assert index.verify() == []
    index.compact()
    assert index.verify() == []
    digests = query(path, "SELECT row, metadata_digest, digest FROM document")
    redigest(path)
    assert query(path, "SELECT row, metadata_digest, digest FROM document") == digests


@pytest.mark.parametrize("key", ["best_layer", "precision"])
def test_setting_whose_key_is_damaged_is_not_taken_for_absent(
    index: Index, path: Path, key: str
) -> None:
    query(path, f"UPDATE setting SET key = 'x' || key WHERE key = '{key}'")
    with pytest.raises(DamagedIndexError, match=rf"setting 'x{key}'.*backup"):
        first(reopen(index).search("text number1 of 1"))


@pytest.mark.parametrize("is_older", [False, True])
def test_info_and_delete_go_on_where_the_best_layer_is_damaged(
    index: Index, path: Path, caplog: pytest.LogCaptureFixture, is_older: bool
) -> None:
    """Older indexes lack settings for artifacts: finding that takes a check of all settings."""
    before = index.info()
    assert before.best_layer is not None
    query(path, OF_BEST_LAYER)
    if is_older:
        query(path, "DELETE FROM setting WHERE key IN ('head', 'transform')")
    damaged = Index.open(path, damaged=True)
    after = damaged.info()
    assert replace(after, size_bytes=0) == replace(before, size_bytes=0, best_layer=None)
    assert after.damaged == ("best_layer", "transform", "head")[: 3 if is_older else 1]
    assert damaged.delete("d1") == 1
    damage = "the setting 'best_layer' of the catalog is damaged: restore the catalog from a backup"
    kinds = ("transform", "head") if is_older else ()
    left_out = [f"the {kind}, if there is one, is left out: {damage}" for kind in kinds]
    assert [record.message for record in caplog.records if "left out" in record.message] == [
        f"the best layer is left out: {damage}",
        *left_out,
    ]
    # Whether transforms are stored, and stale, cannot be told.
    assert [record.message for record in caplog.records if record.message == damage] == (
        [damage] if is_older else []
    )


def test_setting_that_was_never_written_is_absent(index: Index, path: Path) -> None:
    query(path, "DELETE FROM setting WHERE key IN ('best_layer', 'precision')")
    assert reopen(index).info().best_layer is None
    assert reopen(index).search("text number1 of 1", k=1)[0].layer == 3
