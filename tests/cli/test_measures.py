"""``layerdex evaluate`` with --queries, --pairs and --compare."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, ndcg_score

from layerdex import Index
from layerdex.options import EncoderOptions
from tests.cli.corpus import DOCUMENTS, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer, similarities

TEXTS = [one["text"] for one in DOCUMENTS]
IDS = [one["id"] for one in DOCUMENTS]
QUERIES = [
    {"id": "q1", "text": "card declined at the bank"},
    {"id": "q2", "text": "soup with fresh bread and butter"},
    {"id": "q3", "text": "a strong wind all day"},
    {"id": "unjudged", "text": "nothing at all"},
]
QRELS = {
    "q1": {"card-0": 2, "card-1": 1, "card-5": 2, "food-0": 0},
    "q2": {"food-0": 1, "food-2": 2, "food-5": 1},
    "q3": {"rain-4": 2, "rain-5": 2},
}
PAIRS = [
    {"sentence1": "my bank card", "sentence2": "my new bank card", "score": 5},
    {"sentence1": "fish soup", "sentence2": "the fish soup with bread", "score": 4},
    {"sentence1": "a cold storm", "sentence2": "a storm is coming", "score": 3},
    {"sentence1": "fresh bread", "sentence2": "fresh wind", "score": 2},
    {"sentence1": "the wind is strong", "sentence2": "my card is wrong", "score": 1},
    {"sentence1": "sunny and warm", "sentence2": "declined payment", "score": 0},
]
SCORES = [one["score"] for one in PAIRS]


@pytest.fixture
def judged(tmp_path: Path) -> list[Any]:
    """The options of a retrieval evaluation."""
    qrels = tmp_path / "qrels.tsv"
    lines = [f"{q}\t{d}\t{grade}" for q, of_q in QRELS.items() for d, grade in of_q.items()]
    qrels.write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines))
    queries = write_jsonl(tmp_path / "queries.jsonl", QUERIES)
    return ["--queries", queries, "--qrels", qrels]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "pairs.jsonl", PAIRS)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """An index of another template, of most of the documents in another order."""
    path = tmp_path / "other"
    rows = [*reversed(DOCUMENTS[:-1]), {"id": "new", "text": "quite new", "label": "rain"}]
    rows[3] = {**rows[3], "text": "changed meanwhile"}
    Index.create(path, model=WordTransformer(EncoderOptions(template="so {text} then"))).add(rows)
    return path


def ndcg(layer: int, template: str = "{text}") -> float:
    """Return nDCG@10 by scikit-learn, of queries in a template and documents in none."""
    gains = []
    for query in QUERIES[:3]:
        asked = template.replace("{text}", query["text"])
        found = np.round(similarities([asked], TEXTS, layer), 5)
        # a tie goes to the first: scikit-learn would average over the order
        found = found - np.arange(len(TEXTS)) * 1e-9
        grades = [max(QRELS[query["id"]].get(one, 0), 0) for one in IDS]
        gains.append(ndcg_score([grades], found, k=10))
    return float(np.mean(gains))


def test_retrieval_is_measured_at_every_layer(cli: Cli, shared: Path, judged: list[Any]) -> None:
    found = cli.json("evaluate", shared, *judged)
    assert (found["subject"], found["n"], found["n_left_out"]) == ("queries", 3, 1)
    assert [one["layer"] for one in found["layers"]] == [0, 1, 2, 3]
    for one in found["layers"]:
        assert one["ndcg@10"] == pytest.approx(ndcg(one["layer"]))
        assert one["recall@100"] == 1  # of 20 documents
        low, high = one["ndcg@10_interval"]
        assert low <= one["ndcg@10"] <= high
    best = max(found["layers"], key=lambda one: one["ndcg@10"])
    assert found["best_layer"] == best["layer"]


def test_queries_may_have_a_template_of_their_own(
    cli: Cli, shared: Path, judged: list[Any]
) -> None:
    template = "where is {text}"
    found = cli.json("evaluate", shared, *judged, "--query-template", template)
    for one in found["layers"]:
        assert one["ndcg@10"] == pytest.approx(ndcg(one["layer"], template))
    assert ndcg(3, template) != ndcg(3)


def test_pairs_with_scores_are_measured_at_every_layer(cli: Cli, shared: Path, pairs: Path) -> None:
    found = cli.json("evaluate", shared, "--pairs", pairs)
    assert (found["subject"], found["n"]) == ("pairs", len(PAIRS))
    for one in found["layers"]:
        expected = spearmanr(pair_similarities(one["layer"]), SCORES).statistic
        assert one["spearman"] == pytest.approx(expected)


def pair_similarities(layer: int) -> list[float]:
    both = [[str(one["sentence1"]), str(one["sentence2"])] for one in PAIRS]
    return [float(similarities([a], [b], layer)[0, 0]) for a, b in both]


def test_pairs_without_a_text_or_a_judgement_are_left_out(
    cli: Cli, shared: Path, pairs: Path, tmp_path: Path
) -> None:
    gaps = [{**PAIRS[0], "sentence2": None}, {**PAIRS[1], "score": None}]
    gapped = write_jsonl(tmp_path / "gaps.jsonl", [*PAIRS, *gaps])
    found = cli.json("evaluate", shared, "--pairs", gapped)
    assert found == {**cli.json("evaluate", shared, "--pairs", pairs), "n_left_out": 2}
    note = "2 pairs without a text or a judgement left out"
    assert note in cli.ok("evaluate", shared, "--pairs", gapped).stderr.splitlines()


def test_scores_can_be_cut_into_labels(cli: Cli, shared: Path, pairs: Path) -> None:
    found = cli.json("evaluate", shared, "--pairs", pairs, "--positive-from", "3")
    labels = np.array(SCORES) >= 3
    for one in found["layers"]:
        expected = average_precision_score(labels, pair_similarities(one["layer"]))
        assert one["average_precision"] == pytest.approx(expected)
        accepted = np.array(pair_similarities(one["layer"])) >= one["threshold"] - 1e-6
        hits = (accepted & labels).sum()
        assert one["f1"] == pytest.approx(2 * hits / (accepted.sum() + labels.sum()))


@pytest.mark.parametrize("fuse", ["mean", "concat", "rrf"])
def test_fused_layers_are_measured_beside_single_ones(
    cli: Cli, shared: Path, judged: list[Any], fuse: str
) -> None:
    found = cli.json("evaluate", shared, *judged, "--layers", "1,3", "--fuse", fuse)
    assert [one["layer"] for one in found["layers"]] == [1, 3, f"{fuse}(1,3)"]
    assert found["best_layer"] in {1, 3}


def test_the_tables_fit_80_columns_and_say_what_json_says(
    cli: Cli, shared: Path, judged: list[Any], pairs: Path, other: Path
) -> None:
    of_pairs = ["--pairs", pairs]
    for words in (judged, of_pairs, [*of_pairs, "--positive-from", "3"]):
        fused = ["--layers", "0:0.25,1:0.5,3:0.75", "--fuse", "mean"]
        found = cli.json("evaluate", shared, *words, *fused)
        shown = cli.ok("evaluate", shared, *words, *fused).stdout
        assert max(map(len, shown.splitlines())) <= 80
        metrics = found["metrics"]
        for one in found["layers"]:
            rows = [line.split() for line in shown.splitlines()]
            row = next(row for row in rows[2:] if row[:1] == [str(one["layer"])])
            assert f"{one[metrics[0]]:.4f}" in row
        assert f"Best layer: {found['best_layer']} (" in shown
    compared = cli.ok("evaluate", shared, "--compare", other, "-k", "3").stdout
    assert max(map(len, compared.splitlines())) <= 80


def test_curves_are_drawn(
    cli: Cli, shared: Path, judged: list[Any], pairs: Path, other: Path, tmp_path: Path
) -> None:
    drawn = {
        "a.svg": (judged, b"nDCG@10"),
        "b.svg": (["--pairs", pairs], b"Spearman"),
        "c.svg": (["--compare", other, "-k", "3"], b"second (best"),
        "d.png": (["--pairs", pairs, "--positive-from", "3"], b"PNG"),
    }
    for name, (words, content) in drawn.items():
        done = cli.ok("evaluate", shared, *words, "--plot", tmp_path / name)
        assert f"Curve written to {tmp_path / name}" in done.stderr
        assert content in (tmp_path / name).read_bytes()


def test_the_best_layer_for_queries_can_be_saved(cli: Cli, path: Path, judged: list[Any]) -> None:
    best = cli.json("evaluate", path, *judged)["best_layer"]
    cli.ok("evaluate", path, *judged, "--save-best")
    saved = cli.json("info", path)["best_layer"]
    assert (saved["layer"], saved["method"]) == (best, "queries")
    assert f"{best} (nDCG@10 {saved['ndcg@10']:.4f})" in cli.data("info", path)
    [hit] = cli.json("search", path, "card", "-k", "1")
    assert hit["layer"] == best


def test_two_indexes_are_compared_on_the_documents_they_share(
    cli: Cli, shared: Path, other: Path, tmp_path: Path
) -> None:
    found = cli.json("evaluate", shared, "--compare", other, "-k", "3")
    # the unlabelled document has no part in this, one is new and one has another text
    assert (found["n_documents"], found["n_changed"]) == (18, 1)
    assert (found["n_only_first"], found["n_only_second"]) == (0, 1)
    first, second = found["first"]["layers"], found["second"]["layers"]
    for one, a, b in zip(found["differences"], first, second, strict=True):
        assert one["macro_f1"] == pytest.approx(b["macro_f1"] - a["macro_f1"])
    same = write_shared(tmp_path / "same", "{text}")
    alone = cli.json("evaluate", same, "-k", "3")["layers"]
    for one, a in zip(alone, first, strict=True):
        assert (one["macro_f1"], one["accuracy"]) == (a["macro_f1"], a["accuracy"])
        assert one["macro_f1_interval"] == a["macro_f1_interval"]
    templated = write_shared(tmp_path / "templated", "so {text} then")
    for one, b in zip(cli.json("evaluate", templated, "-k", "3")["layers"], second, strict=True):
        assert one["macro_f1_interval"] == pytest.approx(b["macro_f1_interval"])
        assert one["accuracy"] == b["accuracy"]
    assert found["first"] != found["second"]
    done = cli.ok("evaluate", shared, "--compare", other, "-k", "3")
    assert "left out: 1 only in the second, 1 with another text or label" in done.stderr


def write_shared(path: Path, template: str) -> Path:
    """Make an index of the labelled documents that both indexes have, in the first one's order."""
    changed = [*reversed(DOCUMENTS[:-1])][3]["id"]
    rows = [one for one in DOCUMENTS[:-1] if one["id"] != changed]
    Index.create(path, model=WordTransformer(EncoderOptions(template=template))).add(rows)
    return path


def test_an_index_does_not_differ_from_itself_in_another_order(
    cli: Cli, shared: Path, judged: list[Any], pairs: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned"
    # The repeat stays behind what it repeats: equal similarities are ordered by row.
    rows = [*DOCUMENTS[9:18], *DOCUMENTS[:9], *DOCUMENTS[18:]]
    Index.create(turned, model=WordTransformer()).add(rows)
    for words in ([], ["--folds", "3"], judged, ["--pairs", pairs]):
        found = cli.json("evaluate", shared, "--compare", turned, *words, "--resamples", "50")
        main = found["first"]["metrics"][0]
        for one in found["differences"]:
            assert (one[main], one[f"{main}_interval"]) == (0, [0, 0])
    assert cli.json("evaluate", shared, "--compare", turned)["n_documents"] == 19


def test_retrieval_is_compared_over_shared_documents(
    cli: Cli, shared: Path, other: Path, judged: list[Any]
) -> None:
    found = cli.json("evaluate", shared, "--compare", other, *judged)
    first, second = found["first"], found["second"]
    assert first["n"] == second["n"] == 3
    # the bare document is only in the first, and the changed one in neither as it was
    assert (found["n_documents"], found["n_only_first"], found["n_changed"]) == (18, 1, 1)
    for one, a, b in zip(found["differences"], first["layers"], second["layers"], strict=True):
        assert one["ndcg@10"] == pytest.approx(b["ndcg@10"] - a["ndcg@10"])
    assert any(one["ndcg@10"] for one in found["differences"])


def test_judged_documents_that_are_not_shared_are_missed_in_both(
    cli: Cli, shared: Path, judged: list[Any], tmp_path: Path
) -> None:
    rows = [one for one in DOCUMENTS if not one["id"].startswith("card")]
    Index.create(tmp_path / "fewer", model=WordTransformer()).add(rows)
    found = cli.json("evaluate", shared, "--compare", tmp_path / "fewer", *judged)
    assert found["first"] == found["second"]  # of the same documents, by the same encoder
    assert (found["first"]["n"], found["first"]["n_not_searched"]) == (3, 3)
    assert found["second"] == cli.json("evaluate", tmp_path / "fewer", *judged)
    apart = tmp_path / "apart"
    Index.create(apart, model=WordTransformer()).add([*DOCUMENTS[:2], {"id": "z", "text": "new"}])
    qrels = tmp_path / "rain.tsv"
    qrels.write_text("q3 0 rain-4 1\nq3 0 z 1\n")
    rain = [*judged[:2], "--qrels", qrels]
    message = cli.error("evaluate", shared, "--compare", apart, *rain)
    assert message == "no judged document is in both indexes with the same text"


def test_indexes_that_share_nothing_cannot_be_compared(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    rows = [{**one, "id": f"other-{one['id']}"} for one in DOCUMENTS]
    Index.create(tmp_path / "apart", model=WordTransformer()).add(rows)
    message = cli.error("evaluate", shared, "--compare", tmp_path / "apart")
    assert message == "the two indexes have no document in common (they are matched by id)"


def test_ids_that_nothing_has_are_errors(
    cli: Cli, shared: Path, judged: list[Any], tmp_path: Path
) -> None:
    qrels = tmp_path / "bad.tsv"
    qrels.write_text("q1 0 nowhere 1\n")
    message = cli.error("evaluate", shared, *judged[:2], "--qrels", qrels)
    assert message == (
        "none of 1 judged documents is searched, such as 'nowhere': the index has no document "
        "with such an id"
    )
    qrels.write_text("q9 0 card-0 1\n")
    message = cli.error("evaluate", shared, *judged[:2], "--qrels", qrels)
    assert message.startswith("1 of 1 judged queries are not among the queries, such as 'q9'")
    message = cli.error("evaluate", shared, *judged, "--where", "id=card-3")
    assert message.endswith("such as 'card-0': the conditions leave them out")


def test_forgotten_ids_are_named(cli: Cli, judged: list[Any], tmp_path: Path) -> None:
    rows = [{"doc key": one["id"], "kind": "card-0", "text": one["text"]} for one in DOCUMENTS]
    Index.create(tmp_path / "index", model=WordTransformer()).add(rows)
    message = cli.error("evaluate", tmp_path / "index", *judged)
    assert "in the metadata field 'doc key'; index them again with --id-field 'doc key'" in message


def test_what_does_not_count_is_said(
    cli: Cli, shared: Path, judged: list[Any], tmp_path: Path
) -> None:
    queries = [{"_id": "card-0", "text": TEXTS[0], "metadata": {"nested": [{}]}}]
    queries += [{"_id": "x", "text": "rain", "metadata": {}}, {"_id": "y", "text": "z"}]
    qrels = tmp_path / "own.tsv"
    lines = [f"card-0\tcard-{i}\t1.0" for i in range(1, 5)]
    lines += ["card-0\tgone\t2.0", "card-0\tcard-1\t1", "x\train-1\t0"]
    qrels.write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines))
    words = ["--queries", write_jsonl(tmp_path / "own.jsonl", queries), "--qrels", qrels]
    done = cli.ok("evaluate", shared, *words)
    assert done.stderr.splitlines() == [
        "1 query without a judgement left out",
        "1 query without a relevant document: counted as 0",
        "1 query has a document with the query's own id, which is left out of the hits as in "
        "BEIR: --rules trec keeps it",
        "1 of 6 judged documents not searched (not in the index, or left out): counted as not "
        "found",
    ]
    figures = ["rules", "n", "n_left_out", "n_own_left_out", "n_judged", "n_not_searched"]
    found = cli.json("evaluate", shared, *words)
    assert [found[name] for name in figures] == ["beir", 2, 1, 1, 6, 1]
    assert found["n_without_relevant"] == 1
    kept = cli.json("evaluate", shared, *words, "--rules", "trec")
    assert [kept[name] for name in figures] == ["trec", 2, 1, 0, 6, 1]
    assert "left out of the hits" not in cli.ok("evaluate", shared, *words, "--rules=trec").stderr
    # The text of the first query is that of its own document, which is the first hit or none.
    for mine, trec in zip(found["layers"], kept["layers"], strict=True):
        assert 1 / (2 * mine["mrr@10"]) == pytest.approx(1 / (2 * trec["mrr@10"]) - 1)
    assert cli.usage("evaluate", shared, "--rules", "trec") == "--rules requires --queries"
    limited = cli.ok("evaluate", shared, *words, "--where", "label=card").stderr
    assert "2 of 6 judged documents not searched" in limited


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--queries", "q"], {"--queries", "--qrels"}),
        (["--qrels", "q"], {"--queries", "--qrels"}),
        (["--query-template", "{text}!"], {"--query-template", "--queries"}),
        (["--positive-from", "1"], {"--positive-from", "--pairs"}),
        (["--sentence1-field", "a"], {"--sentence1-field", "--pairs"}),
        (["--sentence2-field", "a"], {"--sentence2-field", "--pairs"}),
        (["--score-field", "a"], {"--score-field", "--pairs"}),
        (
            ["--pairs", "p", "--score-field", "a", "--label-field", "b"],
            {"--score-field", "--label-field"},
        ),
        (["--pairs", "p", "--text-field", "a"], {"--text-field", "--pairs"}),
        (["--compare", "x", "--label-field", "a"], {"--label-field", "--compare"}),
        (["--pairs", "p", "--queries", "q", "--qrels", "q"], {"--queries", "--pairs"}),
        (["--pairs", "p", "-k", "3"], {"-k", "--pairs"}),
        (["--pairs", "p", "--where", "a=b"], {"--where", "--pairs"}),
        (["--pairs", "p", "--id-field", "i"], {"--id-field", "--pairs"}),
        (["--queries", "q", "--qrels", "q", "--by", "x"], {"--by", "--queries"}),
        (["--queries", "q", "--qrels", "q", "--folds", "3"], {"--folds", "--queries"}),
        (["--queries", "q", "--qrels", "q", "--format", "csv"], {"--format", "--queries"}),
        (["--compare", "x", "--save-best"], {"--save-best", "--compare"}),
        (["--compare", "x", "--test", "t"], {"--test", "--compare"}),
        (["--by", "a", "--by", "b", "--save-best"], {"--save-best", "--by"}),
        (["--by", "a", "--by", "b", "--report"], {"--report", "--by"}),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    cli: Cli, shared: Path, words: list[str], named: set[str]
) -> None:
    assert named <= set(cli.usage("evaluate", shared, *words).split())


def test_a_comparison_takes_one_of_each(cli: Cli, shared: Path, other: Path) -> None:
    for words in (["-k", "1,3"], ["--weights", "both"], ["--by", "lang", "--by", "stars"]):
        message = cli.usage("evaluate", shared, "--compare", other, *words)
        assert {"--compare", words[0]} <= set(message.split())
    ranks = cli.error("evaluate", shared, "--compare", other, "--layers", "1,2", "--fuse", "rrf")
    assert "rrf fuses rankings" in ranks


def test_pairs_under_other_names_are_named_by_options(
    cli: Cli, shared: Path, pairs: Path, tmp_path: Path
) -> None:
    expected = cli.json("evaluate", shared, "--pairs", pairs)
    named = [
        {"a": one["sentence1"], "b": {"text": one["sentence2"]}, "grade": one["score"], "tags": []}
        for one in PAIRS
    ]
    file = write_jsonl(tmp_path / "named.jsonl", named)
    words = ("--sentence1-field", "a", "--sentence2-field", "b.text", "--score-field", "grade")
    assert cli.json("evaluate", shared, "--pairs", file, *words) == expected


def test_labels_of_pairs_are_named_by_an_option(
    cli: Cli, shared: Path, pairs: Path, tmp_path: Path
) -> None:
    expected = cli.json("evaluate", shared, "--pairs", pairs, "--positive-from", "3")
    named = [{**one, "same": str(one["score"]) in "345"} for one in PAIRS]
    file = write_jsonl(tmp_path / "named.jsonl", named)
    assert cli.json("evaluate", shared, "--pairs", file, "--label-field", "same") == expected


def test_the_options_that_an_error_of_pairs_names_work(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    rows = [
        f"{i},{one['sentence1']},{one['sentence2']},{one['score']}" for i, one in enumerate(PAIRS)
    ]
    file = tmp_path / "sick.csv"
    file.write_text("\n".join(["pair_ID,sentence_A,sentence_B,relatedness_score", *rows]) + "\n")
    message = cli.error("evaluate", shared, "--pairs", file)
    words = shlex.split(message.partition("; try ")[2])
    assert cli.json("evaluate", shared, "--pairs", file, *words)["n"] == len(PAIRS)


def test_fields_that_no_query_needs_are_ignored(
    cli: Cli, shared: Path, judged: list[Any], tmp_path: Path
) -> None:
    expected = cli.json("evaluate", shared, *judged)
    rows = [{"_id": one["id"], "text": one["text"], "metadata": {"tags": ["x"]}} for one in QUERIES]
    file = write_jsonl(tmp_path / "nested.jsonl", rows)
    found = cli.json("evaluate", shared, "--queries", file, *judged[2:])
    assert found == expected


def test_fields_that_no_test_document_needs_are_ignored(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    labelled = [one for one in DOCUMENTS if one.get("label")]
    rows = [{"text": f"{one['text']}!", "label": one["label"]} for one in labelled]
    plain = write_jsonl(tmp_path / "plain.jsonl", rows)
    nested = write_jsonl(tmp_path / "nested.jsonl", [{**row, "id": [], "s": [[0]]} for row in rows])
    words = ("--resamples", "0")
    expected = cli.json("evaluate", shared, "--test", plain, *words)
    assert cli.json("evaluate", shared, "--test", nested, *words) == expected
