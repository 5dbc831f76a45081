"""``layerdex dedup``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.index.view import View
from layerdex.indexer.writers.documents import write_export
from tests.cli.corpus import DOCUMENTS, EXPORTED, read_jsonl, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import similarities

COUNTS = ["n", "n_kept", "n_exact", "n_near", "n_conflicts", "n_unreadable"]
KEYS = ["layer", "threshold", *COUNTS, "clusters"]
THRESHOLD = 0.55
LABELS = {one["id"]: one.get("label") for one in DOCUMENTS}


def greedy(order: list[dict[str, Any]], threshold: float, layer: int) -> dict[str, list[str]]:
    """Return the ids removed by the id kept for them, after the design's words."""
    texts = [one["text"] for one in order]
    found = similarities(texts, texts, layer)
    leaders = [i for i, text in enumerate(texts) if text not in texts[:i]]
    kept: list[int] = []
    for i in leaders:
        if all(found[i, j] < threshold for j in kept):
            kept.append(i)
    clusters: dict[str, list[str]] = {}
    for i in range(len(order)):
        leader = texts.index(texts[i])
        if i not in kept:
            nearest = leader if leader in kept else max(kept, key=lambda j: found[i, j])
            clusters.setdefault(order[nearest]["id"], []).append(order[i]["id"])
    return clusters


def numbers(line: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", line)]


def in_clusters(found: dict[str, Any]) -> dict[str, set[str]]:
    return {one["kept"]: {gone["id"] for gone in one["removed"]} for one in found["clusters"]}


def keep_order(keep: str) -> list[dict[str, Any]]:
    match keep:
        case "first":
            return DOCUMENTS
        case "last":
            return DOCUMENTS[::-1]
        case _:
            return sorted(DOCUMENTS, key=lambda one: -len(one["text"]))


@pytest.mark.parametrize("keep", ["first", "last", "longest"])
@pytest.mark.parametrize("layer", [0, 3])
def test_json_says_who_repeats_whom(cli: Cli, shared: Path, keep: str, layer: int) -> None:
    words = ("--threshold", THRESHOLD, "--layer", layer, "--keep", keep)
    found = cli.json("dedup", shared, *words)
    expected = greedy(keep_order(keep), THRESHOLD, layer)
    n_removed = sum(map(len, expected.values()))
    assert n_removed > 2  # or this threshold does not show it
    assert list(found) == KEYS
    assert {name: found[name] for name in KEYS[:-1]} == {
        "layer": layer,
        "threshold": THRESHOLD,
        "n": len(DOCUMENTS),
        "n_kept": len(DOCUMENTS) - n_removed,
        "n_exact": 1,
        "n_near": n_removed - 1,
        "n_conflicts": sum(
            LABELS[kept] != LABELS[one] and None not in (LABELS[kept], LABELS[one])
            for kept, removed in expected.items()
            for one in removed
        ),
        "n_unreadable": 0,
    }
    assert in_clusters(found) == {kept: set(removed) for kept, removed in expected.items()}
    for cluster in found["clusters"]:
        assert list(cluster) == ["kept", "removed"]
        for one in cluster["removed"]:
            assert {"id", "similarity"} <= set(one)
            texts = [
                next(x["text"] for x in DOCUMENTS if x["id"] == identifier)
                for identifier in (cluster["kept"], one["id"])
            ]
            similarity = similarities(texts[:1], texts[1:], layer)[0, 0]
            assert one["similarity"] == pytest.approx(similarity, abs=1.5e-5)


def test_a_threshold_of_one_leaves_exact_repeats(cli: Cli, shared: Path) -> None:
    found = cli.json("dedup", shared, "--threshold", 1)
    assert in_clusters(found) == {"card-0": {"again"}}
    assert (found["n_exact"], found["n_near"]) == (1, 0)


def test_the_table_counts_and_shows_clusters(cli: Cli, shared: Path) -> None:
    lines = cli.data("dedup", shared, "--threshold", 1).splitlines()
    assert numbers(lines[0]) == [20, 19, 1, 0]
    assert lines[1] == "(layer 3, similarity >= 1, keep first)"
    assert lines[2].rstrip() == "1 cluster"
    text = DOCUMENTS[0]["text"]
    assert [line.rstrip() for line in lines[4:] if line.strip()] == [
        "  removed   kept, and the least similar one removed",
        f" {'─' * 65}",
        "        1   card-0 · card",
        f"            {text}",
        f"            1.000 card · again · {text}",
    ]


def test_a_cluster_shows_its_least_similar_document(cli: Cli, shared: Path) -> None:
    found = cli.json("dedup", shared, "--threshold", 0.5)
    cluster = max(found["clusters"], key=lambda cluster: len(cluster["removed"]))
    least = min(cluster["removed"], key=lambda removed: removed["similarity"])
    shown = cli.data("dedup", shared, "--threshold", 0.5, "--full", "--show", "stars")
    assert f"{len(cluster['removed'])}   {cluster['kept']} ·" in shown
    assert f"{least['similarity']:.3f} " in shown
    assert f"· {least['id']} ·" in shown
    assert shown.count("stars: ") >= 2


def test_only_the_largest_of_many_clusters_are_shown(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {"id": f"{i}-{j}", "text": "word " * i + "end"}
        for i in range(11)
        for j in range(2 + i // 10)
    ]
    cli.ok("index", tmp_path / "new", write_jsonl(tmp_path / "s.jsonl", rows))
    lines = cli.data("dedup", tmp_path / "new", "--threshold", 1).splitlines()
    assert numbers(lines[2]) == [10, 11]
    shown = [line.split()[1] for line in lines[6:] if line[:10].strip()]
    assert shown == ["10-0", *(f"{i}-0" for i in range(9))]


def test_without_duplicates_there_is_no_table(cli: Cli, shared: Path) -> None:
    words = ("--where", "label=rain", "--threshold", 1)
    counts, _ = cli.data("dedup", shared, *words).splitlines()
    assert numbers(counts) == [6, 6, 0, 0]


@pytest.mark.parametrize("keep", ["first", "last"])
def test_the_kept_documents_are_written_whole_in_input_order(
    cli: Cli, shared: Path, tmp_path: Path, keep: str
) -> None:
    output = tmp_path / "kept.jsonl"
    words = ("dedup", shared, "--threshold", THRESHOLD, "--keep", keep)
    result = cli.ok(*words, "-o", output)
    removed = set().union(*in_clusters(cli.json(*words)).values())
    expected = [one for one in EXPORTED if one["id"] not in removed]
    assert read_jsonl(output.read_text("utf-8")) == expected
    assert result.stderr == f"{len(expected)} kept documents written to {output}\n"


def test_what_is_written_and_shown_is_what_was_compared(
    cli: Cli, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "kept.jsonl"

    def delete_and_write(*words: Any, **options: Any) -> int:
        Index.open(path).delete("card-0")
        return write_export(*words, **options)

    monkeypatch.setattr("layerdex.indexer.writers.documents.write_export", delete_and_write)
    shown = cli.ok("dedup", path, "--threshold", 1, "-o", target).stdout
    expected = [one for one in EXPORTED if one["id"] != "again"]
    assert read_jsonl(target.read_text("utf-8")) == expected
    assert DOCUMENTS[0]["text"] in shown


@pytest.mark.parametrize("name", ["kept.parquet", "kept.pq", "kept.NDJSON", "kept"])
def test_the_kept_documents_are_written_as_export_writes_them(
    cli: Cli, shared: Path, tmp_path: Path, name: str
) -> None:
    kept, all_kept = tmp_path / name, tmp_path / f"all-{name}"
    cli.ok("dedup", shared, "--threshold", 1, "-o", kept)
    cli.ok("export", shared, "--where", "id!=again", "-o", all_kept)
    assert kept.read_bytes() == all_kept.read_bytes()
    cli.ok("index", tmp_path / "read", kept, "--format", "auto" if kept.suffix else "jsonl")
    assert cli.jsonl("export", tmp_path / "read") == [
        one for one in EXPORTED if one["id"] != "again"
    ]


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("-o", "x.txt"),
        ("-o", "x.tsv"),
        ("-o", "-"),
        ("--clusters", "x.txt"),
        ("--clusters", "x.parquet"),
        ("--clusters", "-"),
    ],
)
def test_a_name_of_another_format_is_refused_before_any_work(
    cli: Cli,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(Index, "open")
    message = cli.error("dedup", shared, option, name)
    assert ("standard output" if name == "-" else name) in message
    assert ".jsonl" in message or name == "-"
    assert list(tmp_path.glob("x*")) == []


def test_clusters_are_written_one_a_line(cli: Cli, shared: Path, tmp_path: Path) -> None:
    output = tmp_path / "who.jsonl"
    words = ("dedup", shared, "--threshold", THRESHOLD)
    assert cli.ok(*words, "--clusters", output, "-q").stderr == ""
    clusters = read_jsonl(output.read_text("utf-8"))
    assert clusters == cli.json(*words)["clusters"]


def test_where_limits_comparison_and_output(cli: Cli, shared: Path, tmp_path: Path) -> None:
    output = tmp_path / "kept.jsonl"
    words = ("--where", "label=rain", "--threshold", 1, "-o", output)
    assert cli.json("dedup", shared, *words)["n"] == 6
    kept = read_jsonl(output.read_text("utf-8"))
    assert kept == [one for one in EXPORTED if one["label"] == "rain"]


def test_the_index_is_left_alone(cli: Cli, shared: Path) -> None:
    cli.ok("dedup", shared, "--threshold", "-1")
    assert cli.jsonl("export", shared) == EXPORTED


@pytest.mark.parametrize("threshold", ["1.01", "-2", "nan", "inf"])
def test_a_threshold_outside_the_range(cli: Cli, shared: Path, threshold: str) -> None:
    message = cli.error("dedup", shared, "--threshold", threshold)
    assert message == (f"a similarity threshold must be between -1 and 1, got {float(threshold)}")


@pytest.mark.parametrize("option", ["-o", "--clusters"])
def test_a_file_that_cannot_be_written(cli: Cli, shared: Path, tmp_path: Path, option: str) -> None:
    output = tmp_path / "nowhere" / "x.jsonl"
    message = cli.error("dedup", shared, option, output)
    assert message == f"cannot write {output}: No such file or directory"


def test_an_index_without_documents_has_no_duplicates(cli: Cli, tmp_path: Path) -> None:
    cli.ok("index", tmp_path / "new", write_jsonl(tmp_path / "empty.jsonl", []))
    found = cli.json("dedup", tmp_path / "new")
    assert (found["n"], found["n_kept"], found["clusters"]) == (0, 0, [])


def test_what_another_index_has_too_is_counted_and_left_out(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    rows = [{**DOCUMENTS[0], "id": "mine"}, {"id": "own", "text": "zebra xylophone quorum"}]
    cli.ok("index", tmp_path / "mine", write_jsonl(tmp_path / "mine.jsonl", rows))
    [found] = cli.json("dedup", tmp_path / "mine", "--against", shared, "--threshold", "0.99")
    assert (found["n"], found["n_exact"], found["n_near"]) == (2, 1, 0)
    assert found["found"][0]["other"] == DOCUMENTS[0]["id"]
    rest = tmp_path / "rest.jsonl"
    words = ("dedup", tmp_path / "mine", "--against", shared, "--threshold", "0.99", "-o", rest)
    assert "1 document that" in cli.ok(*words).stderr
    assert [one["id"] for one in read_jsonl(rest.read_text())] == ["own"]
    layers = cli.json("dedup", tmp_path / "mine", "--against", shared, "--layer", "0,3")
    assert [one["layer"] for one in layers] == [0, 3]
    shown = cli.data("dedup", tmp_path / "mine", "--against", shared, "--threshold", "-1")
    assert "of 2 documents, found among" in shown
    assert "The least similar of these" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_what_is_not_shared_is_of_the_commit_that_was_compared(
    cli: Cli, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {**DOCUMENTS[0], "id": "mine"},
        {"id": "own", "text": "zebra xylophone quorum", "label": "rain"},
        {"id": "other", "text": "another vulture", "label": "sun"},
    ]
    mine, rest = tmp_path / "mine", tmp_path / "rest.parquet"
    cli.ok("index", mine, write_jsonl(tmp_path / "mine.jsonl", rows))

    def change_and_write(*words: Any, **options: Any) -> int:
        index = Index.open(mine)
        index.delete("own")
        index.add([{"id": "late", "text": "zebra too late", "label": "rain"}])
        return write_export(*words, **options)

    words = ("dedup", mine, "--against", shared, "--threshold", "0.99", "--where", "label!=sun")
    with monkeypatch.context() as patched:
        patched.setattr("layerdex.indexer.writers.documents.write_export", change_and_write)
        assert f"1 document that {shared} does not have" in cli.ok(*words, "-o", rest).stderr
    assert cli.jsonl("export", mine, "--where", "label!=sun")[-1]["id"] == "late"
    cli.ok("index", tmp_path / "rest", rest)
    [left] = cli.jsonl("export", tmp_path / "rest")
    assert (left["id"], left["text"]) == ("own", rows[1]["text"])


def test_what_is_not_shared_at_several_layers_is_refused_before_any_work(
    cli: Cli, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(View, "find_overlap", None)
    rest = tmp_path / "rest.jsonl"
    words = ("dedup", shared, "--against", shared, "-o", rest)
    message = cli.error(*words, "--layer", "0,3")
    assert message.startswith("-o takes one layer")
    assert message.endswith("2 layers")
    assert not rest.exists()
    monkeypatch.undo()
    cli.ok(*words, "--layer", "0,3", "--fuse", "mean")
    assert rest.read_text() == ""


def test_what_is_not_shared_is_not_written_over_the_other_index(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    cli.ok("index", tmp_path / "mine", write_jsonl(tmp_path / "mine.jsonl", DOCUMENTS[:1]))
    words = ("dedup", tmp_path / "mine", "--against", shared, "-o", shared / "rest.jsonl")
    assert "is inside the index" in cli.error(*words)


@pytest.mark.parametrize("words", [("--keep", "last"), ("--clusters", "c"), ("--suggest",)])
def test_what_does_not_go_with_against_is_refused(
    cli: Cli, shared: Path, words: tuple[str, ...]
) -> None:
    message = cli.usage("dedup", shared, "--against", shared, *words)
    assert {"--against", words[0]} <= set(message.split())


def test_repeats_of_another_label_are_counted(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "one two three", "label": "x"},
        {"id": "b", "text": "one two three", "label": "y"},
        {"id": "c", "text": "one two three", "label": "x"},
        {"id": "d", "text": "one two three"},
    ]
    cli.ok("index", tmp_path / "i", write_jsonl(tmp_path / "rows.jsonl", rows))
    found = cli.json("dedup", tmp_path / "i")
    assert found["n_conflicts"] == 1
    [cluster] = found["clusters"]
    assert [one["conflict"] for one in cluster["removed"]] == [True, False, False]
    shown = cli.data("dedup", tmp_path / "i")
    assert "1 removed document with another label" in shown
    assert "1 with another label" in shown
