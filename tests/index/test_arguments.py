"""Arguments of the wrong kind: each is a clear error of Layerdex's own, and changes nothing."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from layerdex import EncoderOptions, Index, LabelTask, RuntimeOptions
from layerdex.errors import LayerdexError, LayerError, ModelError, OptionError
from layerdex.indexer.readers import Fields
from tests.encoders import WordEncoder
from tests.index.expectations import corpus
from tests.results import first

NAN = float("nan")
MANY = np.zeros((40, 40))
LABEL_TASK = {field.name for field in fields(LabelTask)}

# A method, its arguments, its options, and what the error says.
CALLS: list[tuple[str, list[object], dict[str, object], str]] = [
    ("search", [5], {}, "give texts or ids, .* not 5"),
    ("search", [None], {}, "give texts or ids, .* not None"),
    ("search", [[None]], {}, "a text asked about is null"),
    ("search", ["x"], {"k": [1]}, "k must be a whole number"),
    ("search", ["x"], {"layer": np.array(1)}, "layers are whole numbers"),
    ("search", ["x"], {"layer": "9" * 5000}, "cannot read layers"),
    ("search", ["x"], {"where": 5}, "a condition is a string such as 'label=ham', not 5"),
    ("search", ["x"], {"where": [None]}, "a condition is a string"),
    ("search", ["x"], {"where": b"x"}, "a condition is a string"),
    ("search", ["x"], {"min_similarity": "x"}, "a similarity is a number from -1 to 1"),
    ("search", ["x"], {"min_similarity": MANY}, "a similarity must be between"),
    ("search", ["x"], {"min_similarity": 10**400}, "a similarity must be between"),
    ("search", [[1]], {"layer": 1}, "a text asked about is not a string"),
    ("search", [["x"]], {"layer": 5.5}, "a layer must be a whole number, got 5.5"),
    ("search", [["x"]], {"layer": [1, "a"]}, "a layer must be a whole number, got 'a'"),
    ("search", [["x"]], {"layer": MANY}, "layers are whole numbers, not ndarray of 2 dimensions"),
    ("search", [["x"]], {"layer": {}}, "layers are whole numbers, not dict"),
    ("search_like", [5], {}, "give texts or ids, .* not 5"),
    ("search_like", [[5]], {}, "an id is a string"),
    ("search_like", ["d1"], {"layer": "x"}, "cannot read layers 'x'"),
    ("classify", [None], {}, "give texts or ids"),
    *(
        (method, [table], {}, rf"df\['text'\], not {kind}")
        for method in ("search", "search_like", "classify")
        for table, kind in (
            ({"text": "words"}, "dict"),
            (pd.DataFrame({"text": ["words"]}), "DataFrame of 2 dimensions"),
            (pa.table({"text": ["words"]}), "Table of 2 dimensions"),
            (np.array([["words"]]), "ndarray of 2 dimensions"),
        )
    ),
    ("classify", [["x"]], {"min_confidence": NAN}, "min_confidence must be between 0 and 1"),
    ("classify", [["x"]], {"min_confidence": "x"}, "min_confidence must be between 0 and 1"),
    ("classify", [["x"]], {"min_confidence": 2}, "min_confidence must be between 0 and 1"),
    ("classify", [["x"]], {"weights": MANY}, "is not one of uniform, distance"),
    ("evaluate", [], {"k": []}, "give at least one k"),
    ("evaluate", [], {"k": [[1]]}, "k must be a whole number"),
    ("evaluate", [], {"k": np.array(1)}, "k is a number or several"),
    ("evaluate", [], {"min_per_label": "a"}, "min_per_label must be a whole number"),
    ("evaluate", [], {"min_per_label": 0}, "min_per_label must be at least 1"),
    ("evaluate", [], {"test": [], "format": "x"}, "'x' is not one of auto"),
    ("evaluate", [], {"test": [], "fields": 5}, "fields are given as `Fields`"),
    ("evaluate", [], {"test": "\ud800"}, "is not the name of a source"),
    ("evaluate", [], {"on_progress": 5}, "on_progress must be callable"),
    ("deduplicate", [], {"threshold": NAN}, "a similarity threshold must be between"),
    ("deduplicate", [], {"keep": None}, "None is not one of first, last, longest"),
    ("deduplicate", [], {"on_progress": 5}, "on_progress must be callable"),
    ("deduplicate", [], {"on_result": 5}, "on_result must be callable"),
    ("documents", [], {"where": 5}, "a condition is a string"),
    ("get", [None], {}, "an id is a string"),
    ("delete", [5], {}, "an id is a string"),
    ("add", [5], {}, "a source is a path"),
    ("add", ["\ud800"], {}, "is not the name of a source"),
    ("add", [[5]], {}, "the row is not an object"),
    ("add", [[{"text": "x"}]], {"fields": "text"}, "fields are given as `Fields`"),
    ("add", [[{"text": "x"}]], {"format": 5}, "5 is not one of auto"),
    ("add", [[{"text": "x"}]], {"on_error": 5}, "5 is not one of abort, skip"),
    ("add", [[{"text": "x"}]], {"on_reject": 5}, "on_reject must be callable"),
    ("add", [[{"text": "x"}]], {"on_progress": 5}, "on_progress must be callable"),
    ("add", [[{"text": "x"}]], {"n_total": "x"}, "n_total must be a whole number"),
    ("save_best", [None], {}, "the best layer comes from an `Evaluation`"),
    ("save_best", ["x"], {}, "the best layer comes from an `Evaluation`"),
    ("compact", [], {"on_progress": 5}, "on_progress must be callable"),
    ("verify", [], {"on_progress": 5}, "on_progress must be callable"),
    ("repair", ["x"], {}, "give the problems that `verify` returned"),
    ("repair", [None], {}, "give the problems that `verify` returned"),
    ("repair", [[]], {"on_progress": 5}, "on_progress must be callable"),
]

# Options of a new index, and what the error says.
SETTINGS: list[tuple[dict[str, object], str]] = [
    ({"model": None}, "an encoder has settings and encode"),
    ({"model": 5}, "an encoder has settings and encode"),
    ({"model": object()}, "an encoder has settings and encode"),
    ({"model": WordEncoder}, "an encoder has settings and encode"),
    ({"model": "~nobody-of-that-name/x"}, "there is no home folder of that name"),
    ({"precision": "float8"}, "'float8' is not one of float16"),
    ({"model": WordEncoder(), "layers": 5.5}, "a layer must be a whole number, got 5.5"),
    ({"model": WordEncoder(), "layers": "x"}, "cannot read layers 'x'"),
    ({"model": WordEncoder(), "layers": [1, "a"]}, "a layer must be a whole number, got 'a'"),
    ({"model": WordEncoder(), "layers": {}}, "layers are whole numbers, not dict"),
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Index:
    made = Index.create(tmp_path_factory.mktemp("arguments") / "index", model=WordEncoder())
    made.add(corpus(20))
    return made


def ask(index: Index, method: str, arguments: list[Any], options: dict[str, Any]) -> None:
    """Call a method; an evaluation's options are those of its task."""
    if method == "evaluate":
        task = {name: options.pop(name) for name in list(options) if name in LABEL_TASK}
        arguments = [LabelTask(**task)]
    getattr(index, method)(*arguments, **options)


@pytest.mark.parametrize(("method", "arguments", "options", "message"), CALLS)
def test_a_wrong_argument_is_an_error_of_one_line(
    filled: Index, method: str, arguments: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(LayerdexError, match=message) as raised:
        ask(filled, method, arguments, dict(options))
    assert "\n" not in str(raised.value)
    assert len(filled) == 20


@pytest.mark.parametrize(("options", "message"), SETTINGS)
def test_a_wrong_setting_is_an_error_before_anything_is_made(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(LayerdexError, match=message) as raised:
        Index.create(tmp_path / "index", **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": "x"}, "max_length must be a whole number, got 'x'"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"template": 5}, "a template is a string, not 5"),
        ({"pooling": 5}, "5 is not one of mean"),
        ({"long": "split"}, "'split' is not one of truncate, chunk"),
    ],
)
def test_a_wrong_encoder_option_is_an_error_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        EncoderOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": 0}, "a device is a string such as cuda:1, not 0"),
        ({"dtype": "float8"}, "'float8' is not one of auto"),
        ({"engine": MANY}, "is not one of auto"),
    ],
)
def test_a_wrong_runtime_option_is_an_error_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        RuntimeOptions(**options)


@pytest.mark.parametrize("path", [None, 5, b"x", "", "a\0b", "\ud800", MANY])
def test_an_index_lies_at_a_path(path: Any) -> None:
    for call in (Index.open, Index.create):
        with pytest.raises(OptionError, match="an index is a directory's path, not") as raised:
            call(path)
        assert "\n" not in str(raised.value)


def test_a_model_that_is_gone_is_an_error_when_it_is_loaded(filled: Index) -> None:
    index = Index.open(filled.path, model="./no-such-folder")
    with pytest.raises(ModelError, match="no model folder"):
        index.search("word1")


def test_what_is_no_encoder_opens_no_index(filled: Index) -> None:
    no_encoder: Any = object()
    with pytest.raises(OptionError, match="an encoder has settings and encode"):
        Index.open(filled._open.store.path, encoder=no_encoder)


@pytest.mark.parametrize("timeout_s", ["x", None, NAN, -1, True, MANY])
def test_a_time_to_wait_is_a_number_from_zero(filled: Index, timeout_s: Any) -> None:
    evaluation = filled.evaluate(LabelTask(k=1), layer=0)
    for write in (
        lambda **o: filled.add([{"text": "x"}], **o),
        lambda **o: filled.delete("d1", **o),
        lambda **o: filled.save_best(evaluation, **o),
        lambda **o: filled.repair([], **o),
        filled.compact,
    ):
        with pytest.raises(OptionError, match="lock_timeout_s must be between 0 and inf"):
            write(lock_timeout_s=timeout_s)
    assert len(filled) == 20


@pytest.mark.parametrize(
    "names", [{"text": None}, {"text": 0}, {"id": []}, {"label": 5}, {"metadata": [5]}]
)
def test_a_field_has_a_string_for_its_name(names: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="a field's name is a string"):
        Fields(**names)


@pytest.mark.parametrize("metadata", ["year", 5])
def test_metadata_fields_are_listed(metadata: Any) -> None:
    with pytest.raises(OptionError, match="metadata fields are a tuple of names"):
        Fields(metadata=metadata)


def test_none_is_no_condition(filled: Index) -> None:
    assert first(filled.search("word1", where=None)) == first(filled.search("word1", where=[]))
    assert len(list(filled.documents(where=None))) == 20


def test_the_best_layer_must_be_in_the_index(filled: Index, tmp_path: Path) -> None:
    shallow = Index.create(tmp_path / "index", model=WordEncoder(), layers=0)
    with pytest.raises(LayerError, match="layer 3 is not in this index"):
        shallow.save_best(filled.evaluate(layer=3))


def test_numbers_of_numpy_are_saved_with_the_best_layer(index: Index) -> None:
    index.add(corpus(20))
    index.save_best(index.evaluate(LabelTask(k=np.arange(1, 3))))  # type: ignore[arg-type]
    assert (index.info().best_layer or {})["k"] == 1


def test_what_was_not_evaluated_has_no_result(filled: Index) -> None:
    evaluation = filled.evaluate(LabelTask(k=3), layer=1)
    for layer, k in ((1, 5), (2, 3)):
        with pytest.raises(OptionError, match=f"layer {layer} was not evaluated with k = {k}"):
            evaluation.at(layer, k)
