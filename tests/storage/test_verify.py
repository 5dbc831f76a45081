"""Verification: whatever differs from what was committed is found and named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, LayerdexError
from tests.results import first
from tests.storage.corpora import flip_byte, reopen, rows
from tests.storage.permissions import unprivileged
from tests.storage.stored import layer_paths, query, read_codes


@pytest.fixture
def filled(index: Index) -> Index:
    """Three segments, one of which holds a dead version."""
    index.add(rows(18))
    index.delete("d2")
    return index


def test_sound_index_has_no_problems(filled: Index) -> None:
    steps: list[tuple[int, int | None]] = []
    assert filled.verify(on_progress=lambda done, total: steps.append((done, total))) == []
    # In bytes, a step for each layer file.
    assert len(steps) == 12
    assert sorted(set(steps)) == steps
    assert (
        steps[-1][0]
        == steps[-1][1]
        == sum(path.stat().st_size for path in layer_paths(filled.path))
    )


@pytest.mark.parametrize("at", [0, 60, -1])
def test_flipped_byte_is_found_in_every_layer_file(filled: Index, at: int) -> None:
    paths = layer_paths(filled._open.store.path)
    assert len(paths) == 3 * 4
    for path in paths:
        sound = path.read_bytes()
        flip_byte(path, at)
        (problem,) = filled.verify()
        assert (problem.path, problem.reason) == (path, "wrong checksum")
        assert f"layer-{problem.layer:02d}.faiss" == path.name
        assert problem.segment is not None
        assert problem.segment.name == path.parent.name
        path.write_bytes(sound)
    assert filled.verify() == []


def test_missing_and_cut_files_are_found(filled: Index) -> None:
    missing, cut, *_ = layer_paths(filled._open.store.path)
    missing.unlink()
    size = cut.stat().st_size
    os.truncate(cut, size - 7)
    reader = Index.open(filled._open.store.path, damaged=True)
    assert sorted((p.path, p.reason) for p in reader.verify()) == sorted(
        [(missing, "missing"), (cut, f"{size - 7} bytes instead of {size}")]
    )


def test_missing_segment_is_found_layer_by_layer(filled: Index) -> None:
    folder = layer_paths(filled._open.store.path)[0].parent
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    problems = Index.open(filled._open.store.path, damaged=True).verify()
    assert [(p.layer, p.reason) for p in problems] == [(layer, "missing") for layer in range(4)]


@pytest.mark.parametrize("identifier", ["d0", "d2", "d17"])
def test_changed_text_is_found_dead_or_alive(filled: Index, identifier: str) -> None:
    query(
        filled._open.store.path,
        "UPDATE document_text SET text = text || '.' WHERE row = "
        f"(SELECT row FROM document WHERE id = '{identifier}')",
    )
    (problem,) = filled.verify()
    assert problem.path == filled._open.store.path / "catalog.sqlite3"
    assert f"text of document '{identifier}'" in problem.reason


def test_lost_text_is_found(filled: Index) -> None:
    query(filled._open.store.path, "DELETE FROM document_text WHERE row = 4")
    (problem,) = filled.verify()
    assert "text of document 'd3'" in problem.reason


def test_documents_in_the_wrong_segment_are_found(filled: Index) -> None:
    query(filled._open.store.path, "UPDATE document SET row = 500 WHERE row = 4")
    assert any("lost documents of segment" in problem.reason for problem in reopen(filled).verify())


def test_file_that_the_catalog_does_not_list_is_damage_of_the_catalog(filled: Index) -> None:
    query(filled._open.store.path, "DELETE FROM segment_file WHERE layer = 3 AND segment_id = 1")
    with pytest.raises(DamagedIndexError, match=r"segment .* is damaged.*backup"):
        reopen(filled)


def test_verification_beside_a_compaction_finds_nothing(
    filled: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = 0

    def compact(*_: object) -> None:
        nonlocal done
        done += 1
        if done == 1:
            reopen(filled).compact()

    assert filled.verify(on_progress=compact) == []
    assert done > 1


@pytest.mark.parametrize(
    "question",
    [lambda index: index.verify(), lambda index: first(index.search("text", layer=3))],
    ids=["verify", "search"],
)
def test_unreadable_file_is_a_matter_of_permission_not_of_repair(
    public_folder: Path, index: Index, question: Callable[[Index], object]
) -> None:
    index.add(rows(3))
    path = public_folder / "index"
    index._open.store.path.rename(path)
    layer_paths(path)[3].chmod(0)
    reader = Index.open(path, encoder=index.encoder)
    with unprivileged(), pytest.raises(LayerdexError, match="Permission denied"):
        question(reader)


def test_helpers_of_these_tests_read_what_faiss_wrote(filled: Index) -> None:
    assert {read_codes(path).shape for path in layer_paths(filled._open.store.path)} == {
        (8, 16),
        (2, 16),
    }
