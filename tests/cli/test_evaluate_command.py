"""``layerdex evaluate``."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, classification_report, f1_score

from layerdex import Index, LabelTask
from layerdex.cli import progress
from layerdex.cli.commands import evaluate
from layerdex.errors import OptionError
from tests.cli.corpus import DOCUMENTS, read_jsonl, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import similarities

LABELLED = [one for one in DOCUMENTS if one.get("label")]
TEXTS = [one["text"] for one in LABELLED]
LABELS = np.array([one["label"] for one in LABELLED])
TEST = [
    {"text": "my card is at the bank", "label": "card"},
    {"text": "a cake with butter and soup", "label": "food"},
    {"text": "it rains and rains all day", "label": "rain"},
    {"text": "the wind declined my cake", "label": "card"},
]
SVG, PNG = b"<?xml", b"\x89PNG\r\n\x1a\n"


def votes(found: NDArray[np.float64], k: int) -> list[str]:
    """Return the label that the k nearest vote for by 1 / distance, a row a question."""
    predicted = []
    for row in found:
        shares: dict[str, float] = {}
        for i in np.argsort(-row, kind="stable")[:k]:
            shares[LABELS[i]] = shares.get(LABELS[i], 0) + 1 / (1 - row[i])
        predicted.append(max(shares, key=shares.__getitem__))
    return predicted


def leave_one_out(layer: int, k: int) -> list[str]:
    found = similarities(TEXTS, TEXTS, layer)
    same = np.array([[one == other for other in TEXTS] for one in TEXTS])
    found[same] = -2
    return votes(found, k)


def figures(predicted: list[str], true: NDArray[np.str_]) -> dict[str, Any]:
    return {
        "weights": "distance",
        "accuracy": pytest.approx(float(np.mean(np.array(predicted) == true))),
        "macro_f1": pytest.approx(
            f1_score(true, predicted, labels=np.union1d(true, predicted), average="macro")
        ),
        "weighted_f1": pytest.approx(
            f1_score(true, predicted, labels=np.union1d(true, predicted), average="weighted")
        ),
    }


def without_intervals(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave the intervals out, each of which holds its figure."""
    for one in layers:
        for name in ("accuracy", "macro_f1", "weighted_f1"):
            low, high = one.pop(f"{name}_interval")
            assert 0 <= low <= high <= 1
    return layers


def test_a_sample_estimates_the_figures_of_all(cli: Cli, path: Path) -> None:
    n = len(LABELLED)
    found = cli.json("evaluate", path, "--sample", "8", "--seed", "3", "-k", "1,5", "--save-best")
    assert (found["method"], found["n"], found["n_sampled"]) == ("leave-one-out", n, 8)
    assert len(without_intervals(found["layers"])) == 8
    best = cli.json("info", path)["best_layer"]
    assert (best["layer"], best["n"], best["n_sampled"]) == (found["best_layer"], n, 8)
    assert f"{best['macro_f1']:.4f} of a sample of 8)" in cli.data("info", path)
    shown = cli.ok("evaluate", path, "--sample", "8").stdout
    assert f"leave-one-out, 8 of {n} documents, 3 labels" in shown
    # Of all documents it is no sample.
    assert cli.json("evaluate", path, "--sample", "500") == cli.json("evaluate", path)


@pytest.mark.parametrize(
    ("options", "is_proposed"),
    [
        ([], True),
        (["--report"], False),
        (["--folds", "2"], False),
        (["--min-per-label", "6"], True),
        (["--where", "stars<2"], True),
    ],
)
def test_a_sample_is_proposed_only_where_it_can_be_taken(
    cli: Cli, shared: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], is_proposed: bool
) -> None:
    monkeypatch.setattr(evaluate, "_N_LARGE", 10)
    monkeypatch.setattr(evaluate, "_JUDGED_AFTER_S", 0.0)
    monkeypatch.setattr(evaluate, "_MANY_MINUTES", 0.0)
    monkeypatch.setattr(progress, "_SAID_AFTER_S", 0.0)
    monkeypatch.setattr(evaluate, "_N_PROPOSED", 6)  # two of each of three labels
    proposal = "--sample 6 takes a fraction"
    assert (proposal in cli.ok("evaluate", shared, *options).stderr) == is_proposed
    monkeypatch.setattr(evaluate, "_N_PROPOSED", 5)
    assert "--sample" not in cli.ok("evaluate", shared, *options).stderr


def test_a_sample_that_says_less_than_its_intervals_is_noted(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {"id": f"{label}{i}", "text": f"{label} {'word ' * i}", "label": label}
        for label, n in (("a", 20), ("b", 8), ("c", 3))
        for i in range(n)
    ]
    cli.ok("index", tmp_path / "index", write_jsonl(tmp_path / "rows.jsonl", rows))
    words = ("evaluate", tmp_path / "index", "--layers", "0,1")
    # Of 31 documents nine: 3 documents have a share of 0.9, and 7 have one of 2.
    share, few = cli.ok(*words, "--sample", "9").stderr.splitlines()
    assert share.startswith("1 label with a share of the sample below two documents: macro-F1")
    assert share.endswith("Use --min-per-label 7 or a larger --sample")
    assert few.startswith("Fewer than 10 documents of the sample are wrong, or right, at layers 0,")
    shown = cli.ok(*words, "--sample", "9", "--min-per-label", "7").stderr
    assert shown.splitlines() == [few]
    assert cli.ok(*words, "--sample", "24", "--resamples", "0").stderr == ""
    assert cli.ok(*words).stderr == ""
    # Where it would leave one label, a larger number is no way out.
    shown = cli.ok(*words, "--where", "label!=b", "--sample", "9").stderr
    assert "intervals are too narrow. Use a larger --sample\n" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sample", "3"], "at least two documents of each label, 6 in all, got 3"),
        (["--sample", "8", "--report"], "--report cannot be used with --sample"),
        (["--sample", "8", "--folds", "2"], "--folds cannot be used with --sample"),
        (["--sample", "8", "--compare", "INDEX"], "--sample cannot be used with --compare"),
        (["--seed", "8"], "--seed requires --sample"),
    ],
)
def test_a_sample_that_cannot_be_is_refused(
    cli: Cli, shared: Path, options: list[str], message: str
) -> None:
    result = cli("evaluate", shared, *[shared if each == "INDEX" else each for each in options])
    assert result.exit_code != 0
    assert message in result.stderr


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "test.jsonl", TEST)


def test_json_has_an_entry_for_each_layer_and_k(cli: Cli, shared: Path) -> None:
    found = cli.json("evaluate", shared, "-k", "1,5,10")
    assert list(found) == ["method", "n", "label_field", "layers", "best_layer", "frugal_layer"]
    assert (found["method"], found["n"]) == ("leave-one-out", len(LABELLED))
    assert without_intervals(found["layers"]) == [
        {"layer": layer, "k": k, **figures(leave_one_out(layer, k), LABELS)}
        for layer in range(4)
        for k in (1, 5, 10)
    ]
    first = {one["layer"]: one["macro_f1"] for one in found["layers"] if one["k"] == 1}
    assert found["best_layer"] == max(first, key=lambda layer: (first[layer], -layer))


def test_the_first_k_decides_the_best_layer(cli: Cli, shared: Path) -> None:
    best = {}
    for k in (1, 5, 7):
        words = ("--layers", "0,2-3", "-k", f"{k},3", "--resamples", "0")
        found = cli.json("evaluate", shared, *words)
        scores = {x: f1_score(LABELS, leave_one_out(x, k), average="macro") for x in (0, 2, 3)}
        best[k] = max(scores, key=scores.__getitem__)
        assert found["best_layer"] == best[k]
    assert len(set(best.values())) == 3  # or this corpus does not show it


@pytest.mark.parametrize(("layers", "resolved"), [("-1", [3]), ("0,2-3", [0, 2, 3])])
def test_only_the_chosen_layers_are_compared(
    cli: Cli, shared: Path, layers: str, resolved: list[int]
) -> None:
    found = cli.json("evaluate", shared, "--layers", layers, "--resamples", "0")
    assert [one["layer"] for one in found["layers"]] == resolved


def test_uniform_weights_are_passed_on(cli: Cli, shared: Path) -> None:
    words = ("evaluate", shared, "-k", "2,4,6,8", "--resamples", "0")
    default = cli.json(*words)
    assert default == cli.json(*words, "--weights", "distance")
    assert default != cli.json(*words, "--weights", "uniform")


def test_the_table_has_a_row_a_layer_and_names_the_best(cli: Cli, shared: Path) -> None:
    found = cli.json("evaluate", shared)
    title, _, header, _, *rows = cli.data("evaluate", shared).splitlines()
    assert title.rstrip() == f"leave-one-out, {len(LABELLED)} documents, 3 labels, k = 10"
    assert " ".join(header.split()) == "layer accuracy 95 % macro-F1 95 %"
    best, frugal = found["best_layer"], found["frugal_layer"]["layer"]
    expected = []
    for one in found["layers"]:
        cells = [str(one["layer"])]
        for name in ("accuracy", "macro_f1"):
            low, high = one[f"{name}_interval"]
            cells += [f"{one[name]:.4f}", f"{low:.3f}-{high:.3f}"]
        remark = "best" if one["layer"] == best else "frugal" if one["layer"] == frugal else ""
        expected.append([*cells, *([remark] if remark else [])])
    assert [row.split() for row in rows[: len(expected)]] == expected
    one = found["layers"][best]
    assert (
        f"Best layer: {best} (macro-F1 {one['macro_f1']:.4f}, "
        f"accuracy {one['accuracy']:.4f} at k = 10)"
    ) in rows


def test_without_resamples_there_are_no_intervals(cli: Cli, shared: Path) -> None:
    found = cli.json("evaluate", shared, "--resamples", "0")
    assert found["frugal_layer"] is None
    assert not [name for one in found["layers"] for name in one if "interval" in name]
    assert "95 %" not in cli.data("evaluate", shared, "--resamples", "0")


def test_both_weightings_are_compared(cli: Cli, shared: Path) -> None:
    words = ("evaluate", shared, "-k", "2,4", "--resamples", "50")
    both = cli.json(*words, "--weights", "both")["layers"]
    for weights in ("distance", "uniform"):
        alone = cli.json(*words, "--weights", weights)["layers"]
        assert [one for one in both if one["weights"] == weights] == alone
    shown = cli.data(*words, "--weights", "both")
    assert shown.count("leave-one-out") == 2


def test_fused_layers_are_compared_with_each(cli: Cli, shared: Path) -> None:
    words = ("evaluate", shared, "--layers", "1:2,2,3", "--fuse", "mean", "--folds", "3")
    found = cli.json(*words)
    assert [one["layer"] for one in found["layers"]] == [1, 2, 3, "mean(1:2,2:1,3:1)"]
    assert (found["method"], found["n_folds"]) == ("folds", 3)
    assert found["best_layer"] in {1, 2, 3}
    shown = cli.data(*words)
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert shown.startswith("3 folds, ")
    assert "mean(1:2,2:1,3:1)" in shown


def test_another_field_can_be_predicted(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "by"
    rows = [{**one, "metadata": None, "topic": one["label"]} for one in LABELLED]
    rows = [{"text": one["text"], "topic": one["topic"], "n": i % 2} for i, one in enumerate(rows)]
    cli.ok("index", path, write_jsonl(tmp_path / "rows.jsonl", rows))
    few = ("--resamples", "50")
    found = cli.json("evaluate", path, "--by", "topic", *few)
    assert found["label_field"] == "topic"
    for one, layer in zip(found["layers"], range(4), strict=True):
        assert one["accuracy"] == figures(leave_one_out(layer, 10), LABELS)["accuracy"]
    several = cli.json("evaluate", path, "--by", "topic", "--by", "n", *few)
    assert list(several) == ["topic", "n"]
    assert several["topic"] == found
    assert "at least two labels, got 0" in cli.error("evaluate", path)
    assert "labels of topic" in cli.data("evaluate", path, "--by", "topic", *few).splitlines()[0]


@pytest.mark.parametrize("ks", ["1,5,10", "1,2,3,5,10,20,50"])
def test_the_table_of_several_ks_shows_every_figure_whole(cli: Cli, shared: Path, ks: str) -> None:
    words = ("evaluate", shared, "-k", ks, "--resamples", "50")
    found, table = cli.json(*words), cli.data(*words)
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "…" not in table
    shown = table.split()
    for one in found["layers"]:
        assert {f"{one['accuracy']:.4f}", f"{one['macro_f1']:.4f}"} <= set(shown)


def test_a_k_given_twice_is_one_entry(cli: Cli, shared: Path) -> None:
    found = cli.json("evaluate", shared, "-k", "5,5", "--layers", "0")
    assert [(one["layer"], one["k"]) for one in found["layers"]] == [(0, 5)]


def test_save_best_makes_a_layer_the_default(cli: Cli, path: Path) -> None:
    question = ("search", path, "my card")
    assert {hit["layer"] for hit in cli.json(*question)} == {3}
    result = cli.ok("evaluate", path, "--layers", "1", "--save-best")
    assert result.stderr == f"Layer 1 is now the default of {path}\n"
    assert {hit["layer"] for hit in cli.json(*question)} == {1}
    assert cli.data(*question).splitlines()[0].rstrip() == "my card · layer 1"
    assert cli.json(*question, "--layer", "1") == cli.json(*question)
    assert cli.json("classify", path, "my card")[0]["layer"] == 1
    assert cli.json("dedup", path)["layer"] == 1
    best = cli.json("info", path)["best_layer"]
    assert (best["layer"], best["k"], best["method"]) == (1, 10, "leave-one-out")
    assert {hit["layer"] for hit in cli.json(*question, "--layer", "-1")} == {3}


def test_without_save_best_nothing_is_saved(cli: Cli, shared: Path) -> None:
    cli.ok("evaluate", shared)
    assert cli.json("info", shared)["best_layer"] is None


@pytest.mark.parametrize(("name", "magic"), [("c.png", PNG), ("c.svg", SVG), ("c.pdf", b"%PDF-")])
def test_the_plot_is_a_picture(
    cli: Cli, shared: Path, tmp_path: Path, name: str, magic: bytes
) -> None:
    result = cli.ok("evaluate", shared, "-k", "1,5", "--plot", tmp_path / name)
    assert result.stderr == f"Curve written to {tmp_path / name}\n"
    picture = (tmp_path / name).read_bytes()
    assert picture.startswith(magic)
    assert len(picture) > 5_000


def test_svg_plots_of_the_same_figures_are_the_same_bytes(
    cli: Cli, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for picture, day in zip(pictures, ("0", "86400"), strict=True):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", day)  # matplotlib's clock
        cli.ok("evaluate", shared, "--plot", picture)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


@pytest.mark.parametrize("name", ["c.txt", "c"])
def test_a_plot_of_another_kind_is_refused_before_the_work(
    cli: Cli, shared: Path, tmp_path: Path, name: str
) -> None:
    message = cli.error("evaluate", shared, "--plot", tmp_path / name)
    assert message == f"cannot draw {tmp_path / name}: end the name in .png, .svg or .pdf"
    assert not list(tmp_path.glob("c*"))


def test_a_plot_that_cannot_be_written_prints_nothing_else(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "nowhere" / "c.png"
    message = cli.error("evaluate", shared, "--plot", picture)
    assert message == f"cannot draw {picture}: there is no folder {picture.parent}"


def test_the_best_layer_is_saved_before_the_plot_that_fails(
    cli: Cli, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Figure, "savefig", fail)
    words = ("evaluate", path, "--layers", "1", "--save-best", "--plot", tmp_path / "c.png")
    assert cli(*words).exit_code == 1
    assert cli.json("info", path)["best_layer"]["layer"] == 1


@pytest.mark.parametrize("before", [None, b"an older picture"])
def test_a_plot_that_cannot_be_finished_leaves_what_was_there(
    cli: Cli, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    picture = tmp_path / "c.png"
    if before is not None:
        picture.write_bytes(before)

    def fill_the_disk(_: Figure, name: Path, **__: object) -> None:
        name.write_bytes(PNG)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", fill_the_disk)
    result = cli("evaluate", shared, "--plot", picture, "--force")
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: cannot write {picture}: No space left on device\n",
    )
    assert [one.read_bytes() for one in tmp_path.glob("*c.png*")] == [before] * (before is not None)
    assert not list(tmp_path.glob(".*"))


def test_a_title_is_not_broken_at_the_width_of_its_table(cli: Cli, shared: Path) -> None:
    lines = cli.data("evaluate", shared, "-k", "1,2,3").splitlines()
    what = f"leave-one-out, {len(LABELLED)} documents, 3 labels"
    assert [line for line in lines if "leave" in line] == [f"accuracy, {what}", f"macro-F1, {what}"]


def test_the_report_is_that_of_the_best_layer(cli: Cli, shared: Path) -> None:
    best = cli.json("evaluate", shared, "-k", "3,1")["best_layer"]
    shown = cli.data("evaluate", shared, "-k", "3,1", "--report")
    report = classification_report(LABELS, leave_one_out(best, 3), zero_division=0)
    assert shown.endswith(f"\nLayer {best}, k = 3\n\n{report}\n")


def test_json_with_a_report_is_still_one_json_document(cli: Cli, shared: Path) -> None:
    assert cli.json("evaluate", shared, "--report")["method"] == "leave-one-out"


def test_a_test_set_is_classified_by_the_index(cli: Cli, shared: Path, test_file: Path) -> None:
    found = cli.json("evaluate", shared, "--test", test_file, "-k", "3")
    true = np.array([one["label"] for one in TEST])
    texts = [one["text"] for one in TEST]
    assert (found["method"], found["n"]) == ("test", len(TEST))
    assert without_intervals(found["layers"]) == [
        {"layer": layer, "k": 3, **figures(votes(similarities(texts, TEXTS, layer), 3), true)}
        for layer in range(4)
    ]


def test_a_test_set_can_have_other_fields(cli: Cli, shared: Path, tmp_path: Path) -> None:
    file = tmp_path / "test.data"
    file.write_text("body\ttopic\nmy card\tcard\nfresh soup\tfood\n", encoding="utf-8")
    words = ("--format", "tsv", "--text-field", "body", "--label-field", "topic")
    assert cli.json("evaluate", shared, "--test", file, *words)["n"] == 2


def test_a_test_set_has_the_names_of_the_sources(cli: Cli, tmp_path: Path) -> None:
    rows = [{"Nr": i, "Frage": f"card {i % 3} lost", "Art": f"a{i % 2}"} for i in range(12)]
    index, source = tmp_path / "index", write_jsonl(tmp_path / "rows.jsonl", rows)
    words = ("--text-field", "Frage", "--id-field", "Nr", "--label-field", "Art")
    cli.ok("index", index, source, *words)
    test = [{"Frage": "card 1 lost", "Art": "a1"}, {"Frage": "card 2", "Art": "a0"}]
    file = write_jsonl(tmp_path / "test.jsonl", test)
    found = cli.json("evaluate", index, "--test", file, "-k", "3")
    assert found == cli.json("evaluate", index, "--test", file, "-k", "3", *words[:2], *words[4:])
    plain = [{"text": row["Frage"], "label": row["Art"]} for row in test]
    plain_file = write_jsonl(tmp_path / "plain.jsonl", plain)
    assert found == cli.json("evaluate", index, "--test", plain_file, "-k", "3")
    assert found["n"] == Index.open(index).evaluate(LabelTask(k=3, test=test)).n == 2


def test_a_misspelt_field_of_a_test_set_names_those_that_are_there(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "test.jsonl", TEST)
    assert cli.error("evaluate", shared, "--test", file, "--label-field", "lable") == (
        f"{file}: no label field 'lable'; there is 'text', 'label'; try --label-field label"
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "no label"}, "a test document needs a label (field 'label')"),
        ({"text": "", "label": "card"}, "text is empty"),
    ],
)
def test_a_bad_row_of_a_test_set_is_named(
    cli: Cli, shared: Path, tmp_path: Path, row: dict[str, str], reason: str
) -> None:
    file = write_jsonl(tmp_path / "test.jsonl", [TEST[0], row])
    assert cli.error("evaluate", shared, "--test", file) == f"{file}:2: {reason}"


def test_an_empty_test_set_is_an_error(cli: Cli, shared: Path, tmp_path: Path) -> None:
    assert cli.error("evaluate", shared, "--test", write_jsonl(tmp_path / "test.jsonl", []))


def test_rare_labels_are_left_out(cli: Cli, path: Path) -> None:
    words = ("evaluate", path, "--where", "id!=card-1", "--where", "stars>0", "--min-per-label")
    by_label = {"card": 5, "food": 5, "rain": 5}  # stars 1 to 5, and "again" for card-1
    assert cli.json(*words, 5)["n"] == sum(by_label.values())
    cli.ok("delete", path, "food-5")
    assert cli.json(*words, 5)["n"] == by_label["card"] + by_label["rain"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-k", "0"], "k must be at least 1, got 0"),
        (["-k", "5,-1"], "k must be at least 1, got -1"),
        (
            ["--layers", "0,7"],
            "layer 7 does not exist: this model has layers 0 to 3 "
            "(or -1 to -4, counted from the deepest)",
        ),
        (
            ["--where", "label=food"],
            "evaluation needs documents of at least two labels, got 1: "
            "index a source with a label field (--label-field), or filter less (--where)",
        ),
    ],
)
def test_an_evaluation_that_cannot_be_made(
    cli: Cli, shared: Path, words: list[str], message: str
) -> None:
    assert cli.error("evaluate", shared, *words) == message


def test_labels_that_are_all_too_rare_are_no_missing_label_field(cli: Cli, shared: Path) -> None:
    message = cli.error("evaluate", shared, "--min-per-label", "100")
    assert "fewer than two labels" in message
    assert "--min-per-label" in message
    assert "--label-field" not in message


def test_a_field_that_no_document_has_is_named(cli: Cli, shared: Path) -> None:
    message = cli.error("evaluate", shared, "--by", "nope")
    assert message == "no document has a field 'nope' to predict"


def test_documents_that_nobody_can_vote_for_are_noted(cli: Cli, tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": "one and the same", "label": "ab"[i % 2]} for i in range(6)]
    cli.ok("index", tmp_path / "same", write_jsonl(tmp_path / "rows.jsonl", rows))
    done = cli.ok("evaluate", tmp_path / "same", "--resamples", "0")
    assert done.stderr == "6 documents counted as wrong: no document with another text can vote\n"
    rows.append({"id": "other", "text": "quite another", "label": "a"})
    cli.ok("index", tmp_path / "same", write_jsonl(tmp_path / "rows.jsonl", rows))
    assert "vote" not in cli.ok("evaluate", tmp_path / "same", "--resamples", "0").stderr


def test_labels_of_one_document_are_noted(cli: Cli, shared: Path, tmp_path: Path) -> None:
    assert "single document" not in cli.ok("evaluate", shared).stderr
    rows = [*LABELLED, {"id": "rare", "text": "a word of its own", "label": "rare"}]
    cli.ok("index", tmp_path / "rare", write_jsonl(tmp_path / "rows.jsonl", rows))
    shown = cli.ok("evaluate", tmp_path / "rare")
    assert shown.stderr.startswith("1 label with a single document, which no other can vote for")
    assert "single" not in cli.ok("evaluate", tmp_path / "rare", "--min-per-label", "2").stderr


def test_a_layer_alone_is_not_said_to_beat_shallower_ones(cli: Cli, shared: Path) -> None:
    for layers in ("0", "2", "3"):
        said = cli.data("evaluate", shared, "--layers", layers)
        assert "no shallower layer was compared" in said


@pytest.mark.parametrize("words", [(), ("--with", "head")])
def test_rows_of_a_test_table_without_a_text_are_left_out(
    cli: Cli,
    path: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = Index.open(path)
    index.save_head(index.at(layer=2).probe(k=3))
    file = tmp_path / "t.csv"
    file.write_text("text,label\nmy card,card\n,card\n  ,food\nfresh soup,food\n")
    assert cli.json("evaluate", path, "--test", file, *words)["n"] == 2
    assert "t.csv: rows without a text, which are left out: 2" in caplog.text
    lines = write_jsonl(tmp_path / "t.jsonl", [*TEST, {"text": "", "label": "card"}])
    assert "text" in cli.error("evaluate", path, "--test", lines, *words)


def test_a_saved_head_is_measured_on_a_test_file(cli: Cli, path: Path, tmp_path: Path) -> None:
    index = Index.open(path)
    index.save_head(index.at(layer=2).probe(k=3))
    file = write_jsonl(tmp_path / "t.jsonl", [*TEST, {"text": "a strange thing", "label": "snow"}])
    words = ("evaluate", path, "--test", file, "--with", "head", "--resamples", "50")
    found = cli.json(*words, "--report")
    rows = read_jsonl(file.read_text())
    true = [row["label"] for row in rows]
    answers = cli.json("classify", path, *(row["text"] for row in rows), "--with", "head")
    predicted = [answer["label"] for answer in answers]
    [scores] = found["layers"]
    assert (found["method"], found["n"], found["best_layer"]) == ("test", len(rows), 2)
    assert {"k", "weights"}.isdisjoint(scores)
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert scores["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert scores["macro_f1_interval"][0] <= scores["macro_f1"]
    assert "snow" in found["report"]
    page = cli.data(*words, "--report")
    assert f"test, {len(rows)} documents, " in page
    assert f"Layer of the head: 2 (macro-F1 {scores['macro_f1']:.4f}, accuracy " in page
    assert "best" not in page.lower()


def test_a_head_is_measured_only_on_a_test_file_that_it_can_label(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "t.jsonl", TEST)
    words = ("evaluate", path, "--with", "head")
    assert "--test" in cli.error(*words)
    assert "no head" in cli.error(*words, "--test", file)
    assert "-k cannot be used with --with head" in cli.usage(*words, "--test", file, "-k", "3")
    index = Index.open(path)
    index.save_head(index.at(layer=2).probe(k=3))
    other = write_jsonl(tmp_path / "o.jsonl", [{"text": "a", "label": "snow"}])
    assert "no label of the test set is one of the head's" in cli.error(*words, "--test", other)
    evaluation = index.evaluate(LabelTask(test=str(file), classifier="head"))
    with pytest.raises(OptionError, match="head"):
        index.save_best(evaluation)
