"""Texts with tokens that the tokenizer does not know: counted, listed, and not taken as alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layerdex import Index
from layerdex.choices import Keep
from layerdex.errors import DamagedIndexError, ModelError, OptionError
from layerdex.index.open_index import query_vectors
from layerdex.records import Encoded, Unknown
from layerdex.storage.catalog import revisions
from tests.encoders import CountingWordEncoder, WordEncoder
from tests.storage.corpora import rows
from tests.storage.older_schemas import bring_to_schema_0002
from tests.storage.stored import query, read_versions

# An emoji is unknown, and one unknown word is like any other.
DOCUMENTS = [
    {"id": "plain", "text": "the river"},
    {"id": "smile", "text": "😀"},
    {"id": "thumb", "text": "👍"},
    {"id": "river", "text": "the river 😀"},
    {"id": "smile again", "text": "😀"},
    {"id": "wave", "text": "🌊 🌊"},
    {"id": "plain again", "text": "river the"},
]
UNREADABLE = ["smile", "thumb", "smile again", "wave"]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index", model=CountingWordEncoder())
    report = index.add(DOCUMENTS)
    assert (report.n_unknown, report.n_unreadable) == (5, 4)
    return index


def test_unknown_tokens_are_counted_and_listed(index: Index) -> None:
    texts = {row["id"]: row["text"] for row in DOCUMENTS}
    assert index.unknown() == [
        Unknown("smile", 1, 1, True, texts["smile"]),
        Unknown("thumb", 1, 1, True, texts["thumb"]),
        Unknown("river", 3, 1, False, texts["river"]),
        Unknown("smile again", 1, 1, True, texts["smile again"]),
        Unknown("wave", 2, 2, True, texts["wave"]),
    ]
    index.delete("thumb")
    index.add([{"id": "wave", "text": "a great river"}])
    index.compact()

    assert [text.id for text in index.unknown()] == ["smile", "river", "smile again"]
    assert (index.info().n_unknown, index.info().n_unreadable) == (3, 2)
    assert index.verify() == []


@pytest.mark.parametrize("keep", Keep)
@pytest.mark.parametrize("threshold", [-1.0, 0.5, 1.0])
def test_unreadable_texts_are_duplicates_only_of_the_same_text(
    index: Index, threshold: float, keep: Keep
) -> None:
    found = index.deduplicate(threshold=threshold, keep=keep)

    kept_smile, removed_smile = ("smile again", "smile")[:: 1 if keep is Keep.LAST else -1]
    removed = {one.id: (one.kept, one.is_exact) for one in found.removed}
    assert removed.pop(removed_smile) == (kept_smile, True)
    assert not set(removed) & set(UNREADABLE)
    assert not {kept for kept, _ in removed.values()} & set(UNREADABLE)
    assert found.n_unreadable == 4
    assert sorted(found.kept) == sorted(
        {row["id"] for row in DOCUMENTS} - set(removed) - {removed_smile}
    )
    if threshold == 1.0:
        assert len(removed) == 1  # the two orders of the same words


def test_a_threshold_sweep_removes_what_deduplication_does(index: Index) -> None:
    sweep = index.at(layer=2).suggest_thresholds()

    for step in sweep.steps:
        found = index.deduplicate(threshold=step.threshold, layer=2)
        assert (step.n_kept, step.n_near) == (len(found.kept), found.n_near)
    assert sweep.n_exact == 1
    assert len(sweep.nearest) == 3  # of the readable texts


def test_a_threshold_sweep_needs_texts_that_can_be_read(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=CountingWordEncoder())
    index.add(DOCUMENTS[:3])

    with pytest.raises(OptionError, match="two texts that the tokenizer can read"):
        index.at().suggest_thresholds()


def test_unreadable_texts_of_two_indexes_are_compared_by_text(index: Index, tmp_path: Path) -> None:
    other = Index.create(tmp_path / "other", model=CountingWordEncoder())
    other.add([{"id": "o", "text": "👍"}, {"id": "p", "text": "🌋"}])

    (overlap,) = other.at().find_overlap(index, threshold=0.9)
    (reverse,) = index.at().find_overlap(other, threshold=-1)

    assert [(one.id, one.other, one.is_exact) for one in overlap.shared] == [("o", "thumb", True)]
    # However low the threshold: no unreadable text is near to a readable one.
    assert [one.id for one in reverse.shared] == ["thumb"]
    other.add([{"id": "q", "text": "a tree"}])
    (overlap,) = other.at().find_overlap(index, threshold=-1)
    assert {one.id: one.other in UNREADABLE for one in overlap.shared} == {"o": True, "q": False}


def test_a_question_that_cannot_be_read_says_so(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    index.search("the river")
    assert caplog.text == ""
    index.search("👾")
    index.search(["the river", "👾", "🌋"], layer="0-2")

    assert [record.getMessage() for record in caplog.records] == [
        "the tokenizer knows no part of the text '👾': its neighbours mean nothing",
        "the tokenizer knows no part of 2 of 3 texts, such as '👾': their neighbours mean nothing",
    ]


def test_a_question_at_several_layers_says_it_once(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = query_vectors(index._open, "👾", None)

    vectors.encode([1])
    vectors.encode([2])

    assert len(caplog.records) == 1


@pytest.mark.parametrize("change", ["unreadable = NOT unreadable", "n_unknown = n_unknown + 1"])
def test_changed_counts_are_damage(index: Index, change: str) -> None:
    query(index.path, f"UPDATE document SET {change} WHERE id = 'wave'")

    with pytest.raises(DamagedIndexError):
        index.get("wave")
    assert index.verify() != []


def test_an_encoder_need_not_count(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    report = index.add(DOCUMENTS)

    assert (report.n_unknown, report.n_unreadable, index.unknown()) == (0, 0, [])


class _Wrong(CountingWordEncoder):
    def __init__(self, **counts: object) -> None:
        super().__init__()
        self.counts = counts

    def encode(self, texts, layers) -> Encoded:  # type: ignore[no-untyped-def]
        encoded = super().encode(texts, layers)
        for name, value in self.counts.items():
            object.__setattr__(encoded, name, value)
        return encoded


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"n_unknown": None}, "only one of"),
        ({"unreadable": None}, "only one of"),
        ({"n_unknown": np.full(2, -1)}, "not all from 0"),
        ({"n_unknown": np.zeros(2)}, "right type"),
        ({"unreadable": np.ones(3, dtype=bool)}, r"shape \(3,\)"),
        ({"unreadable": np.ones(2, dtype=bool)}, "without unknown tokens"),
    ],
)
def test_an_encoder_that_counts_wrongly_is_refused(
    tmp_path: Path, counts: dict[str, object], reason: str
) -> None:
    index = Index.create(tmp_path / "index", model=_Wrong(**counts))

    with pytest.raises(ModelError, match=reason):
        index.add([{"text": "the river"}, {"text": "a tree"}])
    assert len(index) == 0


def test_an_index_of_the_schema_before_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "index"
    Index.create(path, model=WordEncoder()).add(rows(12))
    bring_to_schema_0002(path)
    before = read_versions(path)

    index = Index.open(path, encoder=CountingWordEncoder())

    assert query(path, "SELECT version_num FROM alembic_version") == [(revisions.SCHEMA_VERSION,)]
    assert read_versions(path) == before
    assert index.verify() == []
    index.add([{"id": "new", "text": "😀"}])
    assert [text.id for text in index.unknown()] == ["new"]
    assert index.verify() == []
