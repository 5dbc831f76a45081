"""Purging documents: what it says of artifacts that were fitted on them."""

from __future__ import annotations

import logging

import pytest

from layerdex import Index
from layerdex.errors import DocumentNotFoundError, StorageError
from layerdex.storage.artifacts import HEAD
from layerdex.storage.catalog.rows import read_setting
from tests.index.expectations import corpus


@pytest.fixture
def index(index: Index) -> Index:
    """An index of 40 documents; one of them has a label of its own and a field of its own."""
    rows = corpus(40)
    rows[7] = {**rows[7], "label": "Mrs Smith"}
    rows[8] = {**rows[8], "label": "Mrs Smith"}
    index.add(rows)
    return index


def warnings_of(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING)


def test_a_purge_says_that_a_head_was_fitted_on_the_documents_and_what_label_it_names(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    index.save_head(index.at(layer=0).probe(folds=2, n_resamples=0))
    index.delete("d7", purge=True)
    said = warnings_of(caplog)
    assert "the stored head was fitted on an index with 1 text no longer in it" in said
    assert f"run 'layerdex probe {index.path} --save' again" in said
    assert "names" not in said  # another document has the label
    caplog.clear()
    index.delete("d8")
    index.compact()  # the names are said even where nothing is left to purge
    index.delete(purge=True)
    said = warnings_of(caplog)
    assert "with 2 texts no longer in it" in said
    assert "names 'Mrs Smith', which no document has any more" in said


def test_a_purge_says_that_the_transforms_were_fitted_on_the_documents(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    index.fit_transforms(shrinkage=0.5)
    index.add([{"id": "d3", "text": "another text"}])  # the version of the fit is dead now
    index.delete("d7", purge=True)
    said = warnings_of(caplog)
    assert "transforms have a share of 2 texts no longer in the index" in said
    assert f"run 'layerdex transform {index.path}' again" in said


def test_a_purge_says_nothing_of_documents_that_came_after_the_fits(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    index.save_head(index.at(layer=0).probe(folds=2, n_resamples=0))
    index.fit_transforms(shrinkage=0.5)
    index.add([{"id": "later", "text": "a later text", "label": "later"}])
    index.delete("later", purge=True)
    assert warnings_of(caplog) == ""


def test_a_purge_without_ids_counts_no_deletion(index: Index) -> None:
    index.delete("d7")
    assert index.info().n_dead == 1
    assert index.delete(purge=True) == 0
    assert index.info().n_dead == 0
    assert len(index) == 39


def test_nothing_is_purged_where_an_id_is_missing_or_in_a_dry_run(index: Index) -> None:
    index.delete("d7")
    with pytest.raises(DocumentNotFoundError):
        index.delete("d8", "nobody", purge=True)
    assert index.delete("d8", purge=True, dry_run=True) == 1
    assert index.info().n_dead == 1


def test_a_head_of_a_field_is_fitted_on_documents_without_a_label(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"id": f"t{i}", "text": f"words {i}", "topic": f"topic {i % 2}"} for i in range(20)]
    index.add(rows)
    index.add([{"id": "plain", "text": "no topic", "label": "a label"}])
    probe = index.at(layer=0).probe(by="topic", folds=2, n_resamples=0)
    index.save_head(probe)
    index.delete("t3", purge=True)
    said = warnings_of(caplog)
    assert "the stored head was fitted on an index with 1 text no longer in it" in said
    assert f"run 'layerdex probe {index.path} --save --by topic' again" in said


def test_what_artifacts_keep_is_said_before_a_purge_that_fails(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    index.fit_transforms(shrinkage=0.5)
    documents = index.documents()
    next(documents)
    with pytest.raises(StorageError, match="still have bytes"):
        index.delete("d7", purge=True, lock_timeout_s=0)
    assert "transforms have a share of 1 text no longer" in warnings_of(caplog)
    for _ in documents:
        pass


def test_a_head_of_an_earlier_version_may_have_a_share(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    index.save_head(index.at(layer=0).probe(folds=2, n_resamples=0))
    with index._open.store.write() as writer:
        with writer.transaction() as connection:
            record = read_setting(connection, HEAD.name)
        writer.set(HEAD.name, {k: v for k, v in record.items() if k != "n_in_index"})
    index.delete("d7", purge=True)
    assert "does not say on which texts it was fitted" in warnings_of(caplog)
