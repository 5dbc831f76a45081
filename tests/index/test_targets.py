"""What an answer says of its target, and targets that cannot be asked."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index, LabelTask, PairTask
from layerdex.errors import LayerError, OptionError
from tests.encoders import WordEncoder
from tests.index.expectations import corpus

ROWS = corpus(60)
PAIRS = [
    {"sentence1": "word1 word2", "sentence2": "word1", "score": 3},
    {"sentence1": "word3", "sentence2": "word4", "score": 1},
    {"sentence1": "word5 word6", "sentence2": "word5 word6", "score": 5},
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Index:
    made = Index.create(tmp_path_factory.mktemp("targets") / "index", model=WordEncoder())
    made.add(ROWS)
    return made


@pytest.mark.parametrize("fuse", [None, "mean", "concat", "rrf"])
def test_stored_documents_asked_together_or_alone_get_the_same(
    filled: Index, fuse: str | None
) -> None:
    view, ids = filled.at(layer="0,2", fuse=fuse), ["d7", "d3", "d11"]
    assert view.search_like(ids, k=60) == [
        result for document_id in ids for result in view.search_like(document_id, k=60)
    ]


def test_layers_of_a_view_do_not_change(filled: Index) -> None:
    chosen = [0, 2]
    view = filled.at(layer=chosen)
    before = view.search("word1")
    chosen.append(3)
    assert view.search("word1") == before
    once = filled.at(layer=(layer for layer in (0, 2)))
    assert once.search("word1") == once.search("word1") == before
    assert hash(once) == hash(view)
    assert "layer=(0, 2)" in repr(view)
    assert len(filled.at(layer=iter([0, 2])).evaluate(PairTask(PAIRS)).scores) == 2


@pytest.mark.parametrize("target", [{"layer": 99}, {"layer": "1:x", "fuse": "mean"}])
def test_a_target_that_cannot_be_is_refused_at_once(filled: Index, target: dict[str, Any]) -> None:
    with pytest.raises((LayerError, OptionError)):
        filled.at(**target)


@pytest.mark.parametrize(
    ("method", "name", "said"),
    [
        (
            "search",
            "whre",
            "did you mean where? (it takes queries, k, min_similarity, query_template, ex",
        ),
        ("search", "top_k", "did you mean k?"),
        ("classify", "n_neighbors", "did you mean k?"),
        ("classify", "threshold", "did you mean min_confidence?"),
        ("at", "k", "it takes layer, fuse, transform, where"),
        (
            "evaluate",
            "by",
            "the task has it, evaluate(LabelTask(by=...)); it takes task, n_resamples",
        ),
        ("evaluate", "qrels", "the task has it, evaluate(RetrievalTask(qrels=...))"),
    ],
)
def test_an_unknown_argument_names_the_method_and_what_it_takes(
    filled: Index, method: str, name: str, said: str
) -> None:
    with pytest.raises(TypeError) as caught:
        getattr(filled, method)(**{name: 1})
    message = str(caught.value)
    assert message.startswith(f"{method}() got an unexpected keyword argument {name!r}: {said}")


@pytest.mark.parametrize(
    "method", ["at", "search", "search_like", "classify", "deduplicate", "evaluate"]
)
def test_signatures_name_the_arguments_of_a_target(filled: Index, method: str) -> None:
    asked = getattr(filled, method)
    parameters = inspect.signature(asked).parameters
    defaults = {"layer": None, "fuse": None, "transform": "none", "where": None}
    assert {name: parameters[name].default for name in defaults} == defaults
    assert "target" not in parameters
    assert all(f"``{name}``" in str(inspect.getdoc(asked)) for name in defaults)


def test_a_question_of_a_view_says_so_on_the_index(filled: Index) -> None:
    with pytest.raises(AttributeError, match=r"'probe': use index\.at\(\)\.probe\(\)"):
        getattr(filled, "probe")()  # noqa: B009 - type checkers know that it is none
    assert not hasattr(filled, "no_such_thing")
    with pytest.raises(AttributeError, match="'_options'"):
        getattr(filled, "_options")  # noqa: B009


def test_the_other_index_is_no_view(filled: Index) -> None:
    other: Any = filled.at(layer=2)
    for ask in (lambda: filled.at().find_overlap(other), lambda: filled.at().compare(other)):
        with pytest.raises(OptionError, match="must be an Index, not View"):
            ask()


def test_pairs_take_no_conditions(filled: Index) -> None:
    view = filled.at(where="id!=d1")
    for ask in (
        lambda: view.evaluate(PairTask(PAIRS)),
        lambda: view.compare(filled, PairTask(PAIRS)),
    ):
        with pytest.raises(OptionError, match="leave out where"):
            ask()


def test_every_score_says_among_which_documents(filled: Index) -> None:
    view = filled.at(layer="1,2", where="id!=d1")
    probe = view.probe(folds=2, n_resamples=0)
    evaluation = view.evaluate(LabelTask(folds=2), n_resamples=0)
    [condition] = evaluation.best.target.where
    for scores in (probe.scores, probe.neighbors.scores, evaluation.scores):
        assert [each.target.where for each in scores] == [(condition,)] * 2


def test_an_encoder_of_ones_own_takes_no_settings(filled: Index, tmp_path: Path) -> None:
    runtime: Any = "cuda"
    with pytest.raises(OptionError, match="give an encoder, or"):
        Index.open(filled.path, encoder=WordEncoder(), model="x")
    with pytest.raises(OptionError, match="runtime is"):
        Index.open(filled.path, runtime=runtime)
    with pytest.raises(OptionError, match="runtime is"):
        Index.create(tmp_path / "new", model=WordEncoder(), runtime=runtime)
