"""``layerdex transform``, and ``--transform`` of other commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerdex import Index
from layerdex.storage.artifacts import TRANSFORM
from tests.cli.corpus import DOCUMENTS, write_jsonl
from tests.cli.runner import Cli
from tests.results import first

QUERY = "my card is at the bank"


def test_each_layer_gets_the_shrinkage_that_its_labels_choose(cli: Cli, path: Path) -> None:
    found = cli.json("transform", path)
    assert (found["n"], found["n_fitted"], found["n_judged"]) == (20, 19, 18)
    assert [one["layer"] for one in found["layers"]] == [0, 1, 2, 3]
    figures = {
        (one["layer"], how): f1 for one in found["layers"] for how, f1 in one["macro_f1"].items()
    }
    best = found["best"]
    assert figures[best["layer"], best["transform"]] == max(figures.values())
    info = cli.json("info", path)["transform"]
    assert info["shrinkages"] == {str(one["layer"]): one["shrinkage"] for one in found["layers"]}
    result = cli.ok("transform", path)
    assert result.stderr.endswith(f" {path}\n")
    title = "fitted on 19 texts of 20 documents; macro-F1 on 3 folds of 18\n"
    assert result.stdout.startswith(title)
    assert f"Best on folds: layer {best['layer']}, --transform {best['transform']}" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_a_shrinkage_can_be_given_and_is_all_there_is_without_labels(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    found = cli.json("transform", path, "--shrinkage", 0.25)
    assert (found["n_judged"], found["best"]) == (0, None)
    assert {(one["shrinkage"], one["macro_f1"]) for one in found["layers"]} == {(0.25, None)}
    bare = [{"id": one["id"], "text": one["text"]} for one in DOCUMENTS]
    cli.ok("index", tmp_path / "bare", write_jsonl(tmp_path / "bare.jsonl", bare))
    page = cli.ok("transform", tmp_path / "bare").stdout
    assert "macro-F1" not in page
    assert "0.5" in page
    assert "Best" not in page
    assert "a shrinkage must be between 0.001 and 1" in cli.error(
        "transform", path, "--shrinkage", 0
    )


def test_transforms_are_removed(cli: Cli, path: Path) -> None:
    cli.ok("transform", path)
    assert cli.ok("transform", path, "--remove").stderr == f"Removed the transforms of {path}\n"
    assert not (path / TRANSFORM.folder).exists()
    assert cli.json("info", path)["transform"] is None
    assert "fitted on" not in cli.data("info", path)
    for words in (["--json"], ["--shrinkage", 1]):
        message = cli.usage("transform", path, "--remove", *words)
        assert {"--remove", words[0]} <= set(message.split())


def test_answers_say_the_transform_and_are_those_of_the_library(cli: Cli, path: Path) -> None:
    cli.ok("transform", path, "--shrinkage", 0.4)
    index = Index.open(path)
    given = ("--layer", 2, "--transform", "whiten", "-k", 3)
    hits = cli.json("search", path, QUERY, *given)
    expected = first(index.search(QUERY, layer=2, transform="whiten", k=3))
    assert [(one["id"], one["similarity"]) for one in hits] == [
        (one.id, one.similarity) for one in expected
    ]
    assert {(one["layer"], one["transform"]) for one in hits} == {(2, "whiten")}
    plain = cli.json("search", path, QUERY, "--layer", 2, "-k", 3)
    assert all("transform" not in one for one in plain)
    assert [one["similarity"] for one in plain] != [one["similarity"] for one in hits]
    assert f"{QUERY} · layer 2 · whiten" in cli.data("search", path, QUERY, *given)
    like = cli.jsonl("search", path, "--like", "card-0", *given, "--jsonl")
    assert [one["transform"] for one in like] == ["whiten"] * 3
    [label] = cli.json("classify", path, QUERY, *given)
    assert [one["id"] for one in label["neighbors"]] == [
        one.id for one in index.classify([QUERY], layer=2, transform="whiten", k=3)[0].neighbors
    ]
    assert label["transform"] == "whiten"
    assert "layer 2 · whiten" in cli.data("classify", path, QUERY, *given)


def test_deduplication_and_suspects_say_it_too(cli: Cli, path: Path, tmp_path: Path) -> None:
    cli.ok("transform", path, "--shrinkage", 0.4)
    given = ("--layer", 1, "--transform", "center", "--threshold", 0.3)
    found = cli.json("dedup", path, *given)
    expected = Index.open(path).deduplicate(layer=1, transform="center", threshold=0.3)
    assert (found["transform"], found["n_kept"]) == ("center", len(expected.kept))
    assert found["n_kept"] != cli.json("dedup", path, "--layer", 1, "--threshold", 0.3)["n_kept"]
    assert "(layer 1 · center, similarity >= 0.3" in cli.data("dedup", path, *given)
    assert cli.json("dedup", path, "--suggest", *given[:4])["transform"] == "center"
    assert "(layer 1 · center, keep first)" in cli.data("dedup", path, "--suggest", *given[:4])
    other = tmp_path / "other"
    cli.ok("index", other, write_jsonl(tmp_path / "other.jsonl", DOCUMENTS[:4]))
    [shared] = cli.json("dedup", path, "--against", other, *given)
    assert (shared["transform"], shared["n_other"]) == ("center", 4)
    assert "(similarity >= 0.3) · center" in cli.data("dedup", path, "--against", other, *given)
    suspects = cli.json("suspects", path, "-k", 5, "--transform", "whiten")
    assert suspects["transform"] == "whiten"


def test_without_transforms_the_command_is_named(cli: Cli, path: Path) -> None:
    said = "this index has no transforms: run 'layerdex transform INDEX' first"
    for words in (("search", path, "x"), ("classify", path, "x"), ("dedup", path)):
        assert cli.error(*words, "--transform", "whiten") == said


def test_evaluations_need_none_and_show_what_they_measure(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    found = cli.json("evaluate", path, "-k", 3, "--transform", "whiten", "--folds", 3)
    assert found["transform"] == "whiten"
    assert "transform" not in cli.json("evaluate", path, "-k", 3)
    page = cli.data("evaluate", path, "-k", 3, "--transform", "center")
    assert page.startswith("leave-one-out, 19 documents, 3 labels · center, k = 3\n")
    queries = write_jsonl(tmp_path / "queries.jsonl", [{"id": "q", "text": QUERY}])
    (tmp_path / "qrels.tsv").write_text("q 0 card-3 1\n")
    judged = ("--queries", queries, "--qrels", tmp_path / "qrels.tsv", "--transform", "whiten")
    assert cli.json("evaluate", path, *judged)["transform"] == "whiten"
    assert "1 query · whiten" in cli.data("evaluate", path, *judged)
    assert not (path / TRANSFORM.folder).exists()
    picture = tmp_path / "layers.svg"
    for words in (("-k", 3, "--transform", "whiten"), judged):
        cli.ok("evaluate", path, *words, "--plot", picture, "--force")
        assert " · whiten -->" in picture.read_text()  # beside the letters' shapes


@pytest.mark.parametrize("words", [("--save-best",), ("--compare", "other")])
def test_what_is_for_plain_vectors_is_refused(cli: Cli, path: Path, words: tuple[str, ...]) -> None:
    message = cli.usage("evaluate", path, "--transform", "whiten", *words)
    assert {"--transform", words[0]} <= set(message.split())


def test_a_head_takes_no_transform(cli: Cli, path: Path) -> None:
    said = cli.usage("classify", path, "x", "--with", "head", "--transform", "whiten")
    assert {"--with", "head", "--transform"} <= set(said.split())


def test_info_counts_what_has_come_since_and_index_warns(
    cli: Cli, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cli.ok("transform", path)
    one, two = ([{"id": f"n{i}", "text": f"wholly new text {i}"}] for i in range(2))
    cli.ok("index", path, write_jsonl(tmp_path / "one.jsonl", one))
    assert "fitted on 20 documents; 1 document added or removed since" in cli.data("info", path)
    rows = [*two, {"id": "n2", "text": "x y"}]
    assert not caplog.messages
    cli.ok("index", path, write_jsonl(tmp_path / "two.jsonl", rows))
    assert f"run 'layerdex transform {path}'" in caplog.text
    assert "3 documents added or removed since" in cli.data("info", path)


def test_verify_says_which_command_makes_damaged_transforms_anew(cli: Cli, path: Path) -> None:
    cli.ok("transform", path)
    [file] = (path / TRANSFORM.folder).iterdir()
    file.write_bytes(b"x" * file.stat().st_size)
    result = cli("verify", path)
    assert result.exit_code == 1
    assert f"{file}: the transform is missing or damaged" in result.stdout
    assert result.stderr == f"1 wrong: run 'layerdex transform {path}'\n"
    repaired = cli("repair", path)
    assert (repaired.exit_code, "the transform is missing" in repaired.stderr) == (1, True)
    index = Index.open(path)
    index.save_head(index.at(layer=[1]).probe(folds=2, n_resamples=0))
    [head] = (path / "heads").iterdir()
    head.unlink()
    advice = f"run 'layerdex probe {path} --save' and 'layerdex transform {path}'"
    assert cli("verify", path).stderr == f"2 wrong: {advice}\n"
    cli.ok("transform", path)
    assert Index.open(path).verify()[0].path == head
