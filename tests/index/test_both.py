"""Questions to two indexes at once, while others write to either of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError
from layerdex.records import OnProgress
from layerdex.search.dedup.overlap import Overlap
from layerdex.storage.snapshot import Snapshot
from tests.encoders import WordEncoder
from tests.index.expectations import corpus
from tests.storage.corpora import reopen
from tests.storage.stored import layer_paths

LAYERS = "0,3"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Index, Index]:
    """Two indexes of other documents, in several segments each."""
    made = []
    for name, seed in (("first", 1), ("second", 2)):
        one = Index.create(tmp_path / name, model=WordEncoder())
        one.add(corpus(20, seed=seed))
        made.append(reopen(one))
    return made[0], made[1]


def leaks(pair: tuple[Index, Index], on_progress: OnProgress | None = None) -> list[Overlap]:
    """Ask one layer after the other: files of the second are opened after the first's answer."""
    first, second = pair
    return first.at(layer=LAYERS).find_overlap(second, threshold=-1, on_progress=on_progress)


def once(change: Callable[[], object]) -> OnProgress:
    left = [change]

    def disturb(_done: int, _total: int | None) -> None:
        if left:
            left.pop()()

    return disturb


def compact(*indexes: Index) -> None:
    for index in indexes:
        other = reopen(index)
        other.delete("d7")
        other.compact()
        len(index)  # which forgets the files of the commit before


@pytest.mark.parametrize("changed", [(0,), (1,), (0, 1)])
def test_a_compaction_of_either_starts_the_question_again(
    pair: tuple[Index, Index], changed: tuple[int, ...]
) -> None:
    found = leaks(pair, once(lambda: compact(*(pair[i] for i in changed))))
    assert found == leaks((reopen(pair[0]), reopen(pair[1])))
    assert (found[0].n, found[0].n_other) == (20 - (0 in changed), 20 - (1 in changed))


@pytest.mark.parametrize("is_reopened", [False, True])
def test_an_index_beside_itself_is_one_commit(
    pair: tuple[Index, Index], is_reopened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, _ = pair
    other = reopen(index) if is_reopened else index
    table = Snapshot.document_table

    def delete_after(snapshot: Snapshot, *words: object, **options: object) -> object:
        found = table(snapshot, *words, **options)  # type: ignore[arg-type]
        disturb(0, None)
        return found

    disturb = once(lambda: compact(index))
    monkeypatch.setattr(Snapshot, "document_table", delete_after)
    compared = index.at(layer=LAYERS).compare(other, n_resamples=0)
    assert compared.n_documents == 19
    assert compared.n_only == (0, 0)


def test_a_file_that_is_missing_in_either_is_damage_of_that_one(pair: tuple[Index, Index]) -> None:
    for index in pair:
        removed = layer_paths(index._open.store.path)[-1]
        content = removed.read_bytes()
        with pytest.raises(DamagedIndexError, match=rf"{removed} is missing"):
            leaks((pair[0], pair[1]), once(removed.unlink))
        removed.write_bytes(content)
