"""Results as short text, as HTML, and as data frames."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from layerdex import Index, LabelTask, View
from layerdex.errors import MissingPackageError
from layerdex.index import PairTask
from layerdex.records import Document, Documents
from layerdex.search.results import Prediction, Predictions, SearchResults
from layerdex.search.targets import SearchTarget
from layerdex.tabular import Table, Tabular
from tests.encoders import WordEncoder
from tests.index.expectations import corpus

SCRIPT = "<script>alert(1)</script>"


class TabularOf(Tabular):
    """A result of one row."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row

    def _summary(self) -> str:
        return "one row"

    def _table(self) -> Table:
        return Table({}, 1, [self.row])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Index:
    index = Index.create(tmp_path_factory.mktemp("tabular") / "index", model=WordEncoder())
    index.add([*corpus(60), {"id": SCRIPT, "text": f"word1 {SCRIPT} " * 500, "label": "l0"}])
    index.add([{"id": "copy", "text": corpus(1)[0]["text"], "label": "l1"}])
    return index


def answers(index: Index) -> dict[str, Any]:
    view: View = index.at()
    other = [{"sentence1": "word1", "sentence2": f"word{i}", "score": i} for i in range(4)]
    return {
        "search": index.search(["word1 word2", SCRIPT], k=25),
        "one search": index.search("word1", k=3)[0],
        "fused": index.search("word1", k=3, layer="0,2", fuse="rrf"),
        "documents": index.get("d1", SCRIPT),
        "document": index.get(SCRIPT)[0],
        "classify": index.classify(["word1 word2", SCRIPT]),
        "prediction": index.classify([SCRIPT])[0],
        "evaluation": index.evaluate(LabelTask(k=[3, 5])),
        "pairs": index.evaluate(PairTask(other), layer="0,2", fuse="mean"),
        "comparison": view.compare(index),
        "deduplication": index.deduplicate(threshold=0.5),
        "overlap": view.find_overlap(index)[0],
        "overlaps": index.at(layer="0,2").find_overlap(index),
        "thresholds": view.suggest_thresholds(),
        "issues": view.find_label_issues(k=5),
        "probe": view.probe(k=3, n_resamples=10),
        "geometry": view.describe_layers(k=4),
        "transforms": index.fit_transforms(),
        "info": index.info(),
    }


@pytest.fixture(scope="module")
def results(filled: Index) -> dict[str, Any]:
    return answers(filled)


def test_every_result_is_short_as_text(results: dict[str, Any]) -> None:
    for name, result in results.items():
        assert 20 < len(repr(result)) <= 300, name
    lists: tuple[Any, ...] = (results["issues"].issues, results["one search"].hits)
    for item in (item for items in lists for item in items):
        assert len(repr(item)) <= 300


def test_text_says_the_figures_that_matter(results: dict[str, Any]) -> None:
    best = results["evaluation"]
    expected = f"best layer {best.best_layer} (macro-F1 {best.best.values['macro_f1']:.4f})"
    assert expected in repr(best)
    assert repr(results["deduplication"]).startswith("<Deduplication: ")
    kept = len(results["deduplication"].kept)
    assert f"{kept} of 62 documents kept, 1 exact and" in repr(results["deduplication"])
    assert "3 hits for 'word1' at layer" in repr(results["one search"])


def test_html_has_escaped_texts_and_at_most_twenty_rows(results: dict[str, Any]) -> None:
    for name, result in results.items():
        if isinstance(result, Document):
            continue
        html = result._repr_html_()
        assert "<script" not in html, name
        assert html.count("<tr>") <= 21
    html = results["search"]._repr_html_()
    assert "&lt;script&gt;" in html
    assert html.count("<tr>") == 21
    assert "<p>… and 30 more</p>" in html


def test_html_has_figures_at_the_right_and_small_ones_not_as_nothing() -> None:
    html = TabularOf(
        {"n": 12, "is": True, "share": 0.00004, "none": 0.0, "text": "a"}
    )._repr_html_()
    right = '<td style="text-align: right">'
    assert [cell.partition("</td>")[0] for cell in html.split(right)[1:]] == [
        *("12", "True", "4e-05", "0.0000"),
    ]


def test_overlaps_at_several_layers_are_one_table(results: dict[str, Any]) -> None:
    overlaps = results["overlaps"]
    assert repr(overlaps).startswith("<Overlaps: 2 overlaps, the first <Overlap: ")
    assert overlaps.to_pandas().layer.tolist() == [
        overlap.layer for overlap in overlaps for _ in overlap.shared
    ]


def test_a_view_says_what_was_chosen(filled: Index) -> None:
    assert repr(filled.at()).endswith("at the default>")
    assert repr(filled.at(layer=0)).endswith("at layer=0>")
    view = filled.at(layer="0,2", fuse="mean", transform="whiten")
    assert repr(view).endswith("at layer='0,2', fuse='mean', transform='whiten'>")


def test_html_of_nothing_is_a_table_without_rows() -> None:
    html = SearchResults()._repr_html_()
    assert "<th>similarity</th>" in html
    assert html.count("<tr>") == 1


def test_a_frame_has_a_row_per_hit_with_its_metadata(results: dict[str, Any]) -> None:
    found: SearchResults = results["search"]
    frame = found.to_pandas()
    assert list(frame) == [
        *("query", "layer", "rank", "id", "similarity", "score", "label", "text"),
        *("even", "size"),
    ]
    assert frame["id"].tolist() == [hit.id for result in found for hit in result]
    assert frame["similarity"].tolist() == [hit.similarity for result in found for hit in result]
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        **dict.fromkeys(("query", "id", "label", "text"), "str"),
        **dict.fromkeys(("layer", "rank"), "int64"),
        **dict.fromkeys(("similarity", "score"), "float64"),
        "size": "Int64",
        "even": "boolean",
    }
    assert isinstance(found, list)


def test_an_empty_answer_has_the_columns_and_dtypes_of_others(results: dict[str, Any]) -> None:
    empty, full = SearchResults().to_pandas(), results["search"].to_pandas()
    assert len(empty) == 0
    shared = [name for name in full if name in empty]
    assert list(empty) == shared
    assert empty.dtypes.drop("layer").tolist() == full[shared].dtypes.drop("layer").tolist()


def test_frames_have_the_figures_of_the_results(results: dict[str, Any]) -> None:
    evaluation = results["evaluation"]
    frame = evaluation.to_pandas()
    assert len(frame) == len(evaluation.layers) * 2
    row = frame[(frame["layer"] == 1) & (frame["k"] == 5)].iloc[0]
    assert row["accuracy"] == evaluation.at(1, 5).values["accuracy"]
    assert row["accuracy_low"] == evaluation.at(1, 5).intervals["accuracy"].low
    assert results["pairs"].to_pandas()["layer"].tolist() == ["0", "2", "mean(0,2)"]
    comparison = results["comparison"].to_pandas()
    assert comparison["macro_f1_difference"].eq(0).all()
    assert len(results["deduplication"].to_pandas()) == len(results["deduplication"].removed)
    assert len(results["issues"].to_pandas()) == results["issues"].n_issues
    probe = results["probe"].to_pandas()
    assert probe["macro_f1"].tolist() == [one.macro_f1 for one in results["probe"].scores]
    assert results["thresholds"].to_pandas()["n_near"].is_monotonic_decreasing
    assert results["overlap"].to_pandas()["id"].tolist() == [
        shared.id for shared in results["overlap"].shared
    ]


def test_every_frame_is_a_frame(results: dict[str, Any]) -> None:
    for name, result in results.items():
        if isinstance(result, Tabular):
            frame = result.to_pandas()
            assert isinstance(frame, pd.DataFrame), name
            assert len(frame), name


def test_predictions_keep_the_index_of_the_series_they_are_of(filled: Index) -> None:
    frame = pd.DataFrame([row for row in corpus(30) if row["label"] is not None])
    frame = frame.sample(frac=1, random_state=1)
    predictions = filled.classify(frame.text, k=1)
    filled.save_head(filled.at().probe(k=3, n_resamples=0))
    for found in (predictions, filled.classify_with_head(frame.text)):
        assert found.to_pandas().index.equals(frame.index)
        assert frame.assign(asked=found.to_pandas().text).eval("asked == text").all()
    copied = pickle.loads(pickle.dumps(predictions))
    assert copied.to_pandas().index.equals(frame.index)
    predictions.reverse()
    assert predictions.to_pandas().index.tolist() == list(range(len(frame)))
    assert filled.classify(frame.text.tolist()).to_pandas().index.tolist() == list(
        range(len(frame))
    )


def test_a_text_without_a_prediction_is_wrong_in_a_mean() -> None:
    target = SearchTarget((1,))
    made = [Prediction("x", "a", 1.0, target, ()), Prediction("y", None, 0.2, target, ())]
    label = Predictions(made).to_pandas().label
    assert (label == pd.Series(["a", "a"])).mean() == 0.5
    assert label.isna().tolist() == [False, True]


def test_metadata_with_the_name_of_a_column_keeps_its_own() -> None:
    rows = Documents([Document(1, "a", "t", None, {"text": "other", "n": 1})])
    frame = rows.to_pandas()
    assert (frame["text"][0], frame["metadata.text"][0], frame["n"][0]) == ("t", "other", 1)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, None], "Int64"),
        ([1, 2], "int64"),
        ([1, 2.5], "float64"),
        ([True, None], "boolean"),
        (["a", None], "str"),
        (["a", 1], "object"),
    ],
)
def test_metadata_gets_the_dtype_of_its_values(values: list[Any], dtype: str) -> None:
    rows = Documents(
        Document(i, str(i), "t", None, {} if value is None else {"field": value})
        for i, value in enumerate(values)
    )
    column = rows.to_pandas()["field"]
    assert str(column.dtype) == dtype
    assert [None if pd.isna(value) else value for value in column] == values


def test_a_prediction_without_a_label_says_so() -> None:
    prediction = Prediction("text", None, 0.25, SearchTarget((3,)), ())
    assert repr(prediction) == "<Prediction: no label (0.250) for 'text' at layer 3>"
    assert repr(Predictions([prediction])) == "<Predictions: 1 prediction>"


def test_without_pandas_the_error_names_the_extra(
    results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'layerdex\[pandas\]'"):
        results["info"].to_pandas()


@pytest.mark.parametrize("name", ["evaluation", "pairs", "comparison", "thresholds", "geometry"])
def test_a_plot_is_a_figure_that_a_notebook_shows_once(
    results: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = results[name].plot()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_a_plot_has_the_values_of_the_evaluation_and_draws_into_given_axes(
    results: dict[str, Any],
) -> None:
    evaluation = results["evaluation"]
    axes = Figure().add_subplot()
    assert evaluation.plot(axes) is axes.figure
    [line] = [one for one in axes.lines if one.get_label() == "accuracy, k = 3"]
    expected = [evaluation.at(layer, 3).values["accuracy"] for layer in evaluation.layers]
    np.testing.assert_array_equal(line.get_ydata(), expected)


def test_an_index_is_a_table_of_its_figures_in_a_notebook(filled: Index) -> None:
    html = filled._repr_html_()
    assert ">62<" in html
    assert Path(repr(filled).split("'")[1]) == filled.path
