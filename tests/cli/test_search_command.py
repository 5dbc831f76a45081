"""``layerdex search``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import Index
from tests.cli.corpus import DOCUMENTS, EXPORTED, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer, nearest, similarities

QUERY = "where is my card"
KEYS = ["query", "rank", "id", "similarity", "label", "text", "metadata", "layer", "exact"]
BY_ID = {one["id"]: one for one in EXPORTED}


def expected_hits(query: str, layer: int, k: int, **extra: Any) -> list[dict[str, Any]]:
    """Return what a search should print, from NumPy's nearest."""
    found = nearest(query, DOCUMENTS, layer)[:k]
    return [
        {
            "query": query,
            **extra,
            "rank": rank,
            "id": identifier,
            "similarity": pytest.approx(similarity, abs=1.5e-5),
            **{name: BY_ID[identifier][name] for name in ("label", "text", "metadata")},
            "layer": layer,
            "exact": True,
        }
        for rank, (identifier, similarity) in enumerate(found, 1)
    ]


def test_a_table_of_the_nearest_names_the_layer(cli: Cli, shared: Path) -> None:
    title, _, header, _, *rows = cli.data("search", shared, QUERY, "-k", 3).splitlines()
    assert title.rstrip() == f"{QUERY} · layer 3"
    assert header.split() == ["#", "similarity", "document"]
    cells = [row.split() for row in rows if row.strip()]
    expected: list[list[str]] = []
    for rank, (identifier, similarity) in enumerate(nearest(QUERY, DOCUMENTS, 3)[:3], 1):
        document = BY_ID[identifier]
        expected.append([str(rank), f"{similarity:.3f}", identifier, "·", document["label"]])
        expected.append(document["text"].split())
    assert cells == expected


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_json_is_a_list_of_hits(cli: Cli, shared: Path, layer: int) -> None:
    hits = cli.json("search", shared, QUERY, "-k", 5, "--layer", layer)
    assert hits == expected_hits(QUERY, layer, 5)
    assert [list(hit) for hit in hits] == [KEYS] * 5


def test_the_deepest_layer_is_the_default(cli: Cli, shared: Path) -> None:
    assert cli.json("search", shared, QUERY) == cli.json("search", shared, QUERY, "--layer", "-1")
    assert cli.json("search", shared, QUERY) == expected_hits(QUERY, 3, 10)


def test_jsonl_is_a_line_a_hit(cli: Cli, shared: Path) -> None:
    lines = cli.jsonl("search", shared, QUERY, "soup", "--jsonl", "--layer", "0,2", "-k", 2)
    assert lines == [
        hit
        for query in (QUERY, "soup")
        for layer in (0, 2)
        for hit in expected_hits(query, layer, 2)
    ]


def test_several_queries_are_answered_in_order(cli: Cli, shared: Path) -> None:
    queries = ["fresh soup", QUERY, "fresh soup", "all day"]
    hits = cli.json("search", shared, *queries, "-k", 2)
    assert hits == [hit for query in queries for hit in expected_hits(query, 3, 2)]


@pytest.mark.parametrize("kind", ["jsonl", "txt", "stdin"])
def test_queries_from_a_file_keep_their_ids(
    cli: Cli, shared: Path, tmp_path: Path, kind: str
) -> None:
    rows: list[dict[str, Any]] = [{"id": "q1", "text": QUERY}, {"id": 2, "text": "fresh soup"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    extra: list[dict[str, Any]] = [{"query_id": "q1"}, {"query_id": "2"}]
    file: object = "-"
    if kind == "jsonl":
        file = write_jsonl(tmp_path / "queries.jsonl", rows)
    elif kind == "txt":
        file, extra = tmp_path / "queries.txt", [{}, {}]
        file.write_text(f"{QUERY}\nfresh soup\n", encoding="utf-8")
    words = ("search", shared, "--input", file, "-k", 2)
    assert cli.json(*words, stdin=lines) == [
        *expected_hits(QUERY, 3, 2, **extra[0]),
        *expected_hits("fresh soup", 3, 2, **extra[1]),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_what_a_query_does_not_have_is_not_judged(
    cli: Cli, shared: Path, tmp_path: Path, suffix: str
) -> None:
    row = {"text": QUERY, "tags": ["q"], "label": ["x"], "metadata": {"": {}}, "": 1}
    file = tmp_path / f"queries.{suffix}"
    file.write_text(json.dumps([row] if suffix == "json" else row), encoding="utf-8")
    assert cli.json("search", shared, "--input", file, "-k", 2) == expected_hits(QUERY, 3, 2)
    assert len(cli.json("classify", shared, "--input", file)) == 1


def test_a_bad_query_in_a_file_is_named(cli: Cli, shared: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "queries.jsonl", [{"text": QUERY}, {"text": ""}])
    assert cli.error("search", shared, "--input", file) == f"{file}:2: text is empty"


def test_no_queries_in_a_file_have_no_answers(cli: Cli, shared: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "queries.jsonl", [])
    assert cli.json("search", shared, "--input", file) == []
    assert cli.json("classify", shared, "--input", file) == []


def test_like_leaves_the_document_itself_out(cli: Cli, shared: Path) -> None:
    hits = cli.json("search", shared, "--like", "card-0", "-k", 3)
    text = DOCUMENTS[0]["text"]
    expected = [one for one in nearest(text, DOCUMENTS, 3) if one[0] != "card-0"][:3]
    assert [hit["id"] for hit in hits] == [identifier for identifier, _ in expected]
    assert hits[0]["id"] == "again"
    assert hits[0]["similarity"] == 1
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert {hit["query_id"] for hit in hits} == {"card-0"}


def test_like_can_be_asked_for_several_at_several_layers(cli: Cli, shared: Path) -> None:
    words = ("--like", "food-0", "--like", "rain-5", "--layer", "0,3", "-k", 1)
    hits = cli.json("search", shared, *words)
    assert [(hit["query_id"], hit["layer"]) for hit in hits] == [
        ("food-0", 0),
        ("food-0", 3),
        ("rain-5", 0),
        ("rain-5", 3),
    ]


def test_like_a_document_that_is_not_there(cli: Cli, shared: Path) -> None:
    message = cli.error("search", shared, "--like", "nobody")
    assert message == "no document has the id 'nobody'"


def test_layers_side_by_side(cli: Cli, shared: Path) -> None:
    title, _, header, _, *rows = cli.data(
        "search", shared, QUERY, "--layer", "0,2", "-k", 2
    ).splitlines()
    assert title.rstrip() == f"{QUERY} · layer 0, 2"
    assert header.split() == ["#", "layer", "0", "layer", "2"]
    at = [header.index("layer 0"), header.index("layer 2")]
    first = [i for i, row in enumerate(rows) if row.strip()[:1] in ("1", "2")]
    for start, layer in zip(at, (0, 2), strict=True):
        shown = [[rows[i + line][start:].split()[0] for line in (0, 1)] for i in first]
        expected = nearest(QUERY, DOCUMENTS, layer)[:2]
        assert shown == [[f"{similarity:.3f}", name] for name, similarity in expected]


@pytest.mark.parametrize(
    ("columns", "blocks"), [("80", ["0 1 2", "3"]), ("60", ["0 1", "2 3"]), ("20", list("0123"))]
)
def test_layers_that_do_not_fit_beside_each_other_follow_in_blocks(
    cli: Cli, shared: Path, monkeypatch: pytest.MonkeyPatch, columns: str, blocks: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = cli.data("search", shared, QUERY, "--layer", "all", "-k", 1).splitlines()
    headers = [line.replace("layer", "").split() for line in lines if "#" in line]
    assert headers == [["#", *block.split()] for block in blocks]


def test_a_layer_with_fewer_hits_leaves_its_own_column_empty(cli: Cli, shared: Path) -> None:
    few, many = 0, 2
    texts = [str(one["text"]) for one in DOCUMENTS]
    second_of_few, second_of_many = (
        float(np.sort(similarities([QUERY], texts, layer)[0])[-2]) for layer in (few, many)
    )
    assert second_of_few < second_of_many  # or this query does not show it
    floor = (second_of_few + second_of_many) / 2
    words = ("--layer", f"{few},{many}", "--min-similarity", f"{floor:.5f}", "-k", 2)
    _, _, header, _, *rows = cli.data("search", shared, QUERY, *words).splitlines()
    row = next(row for row in rows if row.strip().startswith("2 "))
    assert row.index(f"{second_of_many:.3f}") == header.index(f"layer {many}")


def test_where_holds_before_neighbours_are_taken(cli: Cli, shared: Path) -> None:
    hits = cli.json(
        "search", shared, QUERY, "--where", "label=rain", "--where", "stars>=2", "-k", 2
    )
    allowed = [one for one in DOCUMENTS if one.get("label") == "rain" and one["stars"] >= 2]
    expected = nearest(QUERY, allowed, 3)[:2]
    assert [hit["id"] for hit in hits] == [identifier for identifier, _ in expected]


def test_where_nothing_matches_says_so(cli: Cli, shared: Path) -> None:
    words = ("search", shared, QUERY, "--where", "stars>90")
    result = cli.ok(*words)
    said = f"Nothing found for {QUERY!r}: no document meets --where\n"
    assert (result.stdout, result.stderr) == ("", said)
    assert cli.data(*words, "-q") == ""
    assert cli.json(*words) == []


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            "stars",
            "cannot read the filter: expected FIELD and = != < <= > >=, in, between, like, "
            "ilike or is null\n  stars\n  ^",
        ),
        ("colour=red", "no document has a field 'colour' (label, and metadata: lang, stars)"),
        (
            "label==card",
            "cannot read the filter: expected one = only, as in FIELD = VALUE\n"
            "  label==card\n        ^",
        ),
    ],
)
def test_a_condition_that_cannot_be_used(
    cli: Cli, shared: Path, condition: str, message: str
) -> None:
    result = cli("search", shared, QUERY, "--where", condition)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {message}")


def test_k_beyond_the_index_finds_everything(cli: Cli, shared: Path) -> None:
    hits = cli.json("search", shared, QUERY, "-k", 1000)
    assert hits == expected_hits(QUERY, 3, len(DOCUMENTS))
    assert len(cli.json("search", shared, "--like", "bare", "-k", 1000)) == len(DOCUMENTS) - 1


def test_min_similarity_can_be_a_percentile_of_random_pairs_at_each_layer(
    cli: Cli, shared: Path
) -> None:
    texts = [one["text"] for one in DOCUMENTS if one["id"] != "again"]
    hits = cli.json("search", shared, QUERY, "--min-similarity", "p80", "--layer", "0,2", "-k", 20)
    floors = {}
    for layer in (0, 2):
        true = similarities(texts, texts, layer)[np.triu_indices(len(texts), 1)]
        floors[layer] = float(np.percentile(true, 80))
        found = [hit["similarity"] for hit in hits if hit["layer"] == layer]
        everything = cli.json("search", shared, QUERY, "--layer", layer, "-k", 20)
        above = [hit["similarity"] for hit in everything if hit["similarity"] >= floors[layer]]
        assert found == above
        assert 0 < len(found) < len(everything)
    assert abs(floors[0] - floors[2]) > 0.001
    alike = cli.json("search", shared, "--like", "card-0", "--min-similarity", "p80", "-k", 20)
    assert 0 < len(alike) < 19


def test_min_similarity_cuts_the_list(cli: Cli, shared: Path) -> None:
    found = nearest(QUERY, DOCUMENTS, 3)
    floor = (found[2][1] + found[3][1]) / 2
    hits = cli.json("search", shared, QUERY, "--min-similarity", floor)
    assert [hit["id"] for hit in hits] == [identifier for identifier, _ in found[:3]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-k", "0"], "k must be at least 1, got 0"),
        (["-k", "-3"], "k must be at least 1, got -3"),
        (
            ["--layer", "4"],
            "layer 4 does not exist: this model has layers 0 to 3 "
            "(or -1 to -4, counted from the deepest)",
        ),
        (
            ["--layer", "deep"],
            "cannot read layers 'deep': write 'all', a number such as 4 or -1, "
            "or numbers and ranges such as 0,4-6",
        ),
        (["--layer", "3-1"], "layer range '3-1' runs backwards"),
        (["--min-similarity", "1.5"], "a similarity must be between -1 and 1, got 1.5"),
        (["--min-similarity", "nan"], "a similarity must be between -1 and 1, got nan"),
        (
            ["--min-similarity", "p100"],
            "a similarity is a number from -1 to 1, or a percentile of random pairs such as p99 or "
            "p99.9 (below p100), not 'p100'",
        ),
    ],
)
@pytest.mark.parametrize("asked", [[QUERY], ["--like", "card-0"]])
def test_an_option_that_cannot_be_used(
    cli: Cli, shared: Path, asked: list[str], words: list[str], message: str
) -> None:
    assert cli.error("search", shared, *asked, *words) == message


@pytest.mark.parametrize("query", ["", "  ", "\t\n"])
def test_a_query_without_content_is_an_error(cli: Cli, shared: Path, query: str) -> None:
    assert "is empty" in (message := cli.error("search", shared, query)) or "is blank" in message


def test_nothing_asked_is_wrong_usage(cli: Cli, shared: Path) -> None:
    assert cli.usage("search", shared) == "give a QUERY, --like ID or --input FILE"


def test_an_index_without_documents_finds_nothing(cli: Cli, tmp_path: Path) -> None:
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    cli.ok("index", tmp_path / "new", empty)
    assert cli.json("search", tmp_path / "new", QUERY) == []


@pytest.mark.parametrize(
    "words",
    [
        ["search", "INDEX", "\udcff"],
        ["search", "INDEX", "--like", "\udcff"],
        ["search", "INDEX", "a card", "--where", "label=\udcff"],
        ["search", "INDEX", "a card", "--where", "\udcff=card"],
        ["classify", "INDEX", "\udcff"],
        ["get", "INDEX", "\udcff"],
        ["delete", "INDEX", "\udcff"],
        ["delete", "INDEX", "\udcff", "--dry-run"],
    ],
)
def test_arguments_that_are_no_utf8(cli: Cli, path: Path, words: list[str]) -> None:
    # Python's surrogate for the byte 0xff of an argument.
    assert cli.error(*[path if word == "INDEX" else word for word in words])


def test_layers_can_be_fused(cli: Cli, shared: Path) -> None:
    hits = cli.json("search", shared, "my card", "--layer", "0:2,3", "--fuse", "mean", "-k", "3")
    assert {hit["layer"] for hit in hits} == {"mean(0:2,3:1)"}
    shown = cli.data("search", shared, "my card", "--layer", "0-3", "--fuse", "rrf", "-k", "2")
    title, _, header, _, first, *_ = shown.splitlines()
    assert title.rstrip() == "my card · layer rrf(0-3)"
    assert header.split() == ["#", "score", "document"]
    ranked = cli.json("search", shared, "my card", "--layer", "0-3", "--fuse", "rrf", "-k", "2")
    assert [list(hit) for hit in ranked] == [
        ["query", "rank", "id", "score", "label", "text", "metadata", "layer", "exact"]
    ] * 2
    assert first.split()[:3] == ["1", f"{ranked[0]['score']:.5f}", ranked[0]["id"]]
    # One layer alone is fused to its own ranking.
    alone = cli.json("search", shared, "my card", "--layer", "2", "--fuse", "rrf", "-k", "3")
    assert [hit["score"] for hit in alone] == pytest.approx([1 / 61, 1 / 62, 1 / 63])
    refused = cli.error(
        "search", shared, "my card", "--layer", "0-3", "--fuse", "rrf", "--min-similarity", "0.5"
    )
    assert (
        refused == "rrf fuses rankings, which have no similarity: --min-similarity does not apply"
    )
    message = cli.error("search", shared, "my card", "--fuse", "mean")
    assert message == "say which layers to fuse, such as 3,4,5 or all"


def test_a_field_with_a_dot_is_found_by_its_name(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "flat.csv"
    table.write_text(
        "text,metadata.page,metadata.source,source\n"
        "soup with bread,4,a.pdf,b.pdf\nbread and butter,2,b.pdf,a.pdf\nfresh soup,5,a.pdf,c.pdf\n"
    )
    index = tmp_path / "index"
    Index.create(index, model=WordTransformer()).add(table)
    for condition, ids in {
        "metadata.source=a.pdf": {"soup with bread", "fresh soup"},
        '"metadata.source"=a.pdf': {"soup with bread", "fresh soup"},
        "metadata.metadata.source = a.pdf": {"soup with bread", "fresh soup"},
        "source=a.pdf": {"bread and butter"},
        "metadata.page>3": {"soup with bread", "fresh soup"},
        '"metadata.page" in 2,4': {"soup with bread", "bread and butter"},
    }.items():
        hits = cli.json("search", index, "soup", "--where", condition)
        assert {hit["text"] for hit in hits} == ids
        lines = cli.data("export", index, "--where", condition).splitlines()
        assert {json.loads(line)["text"] for line in lines} == ids
    message = cli.error("search", index, "soup", "--where", '"page"=4')
    assert message.startswith("no document has a field 'page' (label, and metadata: metadata.page")


def test_labels_are_taken_from_the_field_that_a_condition_means(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {"text": f"{topic} {i}", "metadata.kind": topic, "kind": "same", "lang": topic}
        for topic in ("soup", "card")
        for i in range(3)
    ]
    Index.create(tmp_path / "index", model=WordTransformer()).add(rows)
    for by in ("metadata.kind", "metadata.lang", "lang", "metadata.metadata.kind"):
        found = cli.json("evaluate", tmp_path / "index", "--by", by, "-k", "2")
        assert (found["n"], found["label_field"]) == (6, by)
    assert "two labels" in cli.error("evaluate", tmp_path / "index", "--by", "kind")
    assert "nope" in cli.error("evaluate", tmp_path / "index", "--by", "metadata.nope")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["x", "--min-similarity", "1"], "no document reaches --min-similarity 1.0"),
        (
            ["x", "--where", "label=rain", "--min-similarity", "1"],
            "no document that meets --where reaches --min-similarity 1.0",
        ),
        (["--like", "card-0", "--where", "id=card-0"], "no other document meets --where"),
    ],
)
def test_it_says_why_nothing_is_found(
    cli: Cli, shared: Path, words: list[str], reason: str
) -> None:
    said = cli.ok("search", shared, *words)
    assert (said.stdout, said.stderr) == (
        "",
        f"Nothing found for {words[words[0] == '--like']!r}: {reason}\n",
    )


def test_an_empty_index_is_why_nothing_is_found(cli: Cli, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=WordTransformer())
    said = cli.ok("search", tmp_path / "index", "x").stderr
    assert said == "Nothing found for 'x': the index has no document\n"
    index.add([{"id": "a", "text": "alone"}])
    said = cli.ok("search", tmp_path / "index", "--like", "a").stderr
    assert said == "Nothing found for 'a': the index has no other document\n"


@pytest.mark.parametrize("command", ["search", "classify"])
def test_a_file_without_texts_is_said(cli: Cli, shared: Path, tmp_path: Path, command: str) -> None:
    for name, content in (("empty.jsonl", "\n"), ("empty.txt", "")):
        file = tmp_path / name
        file.write_text(content)
        done = cli.ok(command, shared, "--input", file)
        assert (done.stdout, done.stderr) == ("", f"{file} has no texts\n")
        done = cli.ok(command, shared, "--input", file, "--json")
        assert (json.loads(done.stdout), done.stderr) == ([], f"{file} has no texts\n")
    done = cli.ok(command, shared, "--input", "-", "--jsonl", stdin="")
    assert (done.stdout, done.stderr) == ("", "standard input has no texts\n")
    assert cli.ok(command, shared, QUERY, "--input", file, "-q").stdout


def test_dates_are_compared_as_such_and_declared_in_other_forms(cli: Cli, tmp_path: Path) -> None:
    days = ["30.06.2026", "01.07.2026"]
    source = write_jsonl(
        tmp_path / "dates.jsonl",
        [{"id": str(i), "text": "soup", "Datum": day} for i, day in enumerate(days)],
    )
    cli.ok("index", tmp_path / "new", source)
    words = ("search", tmp_path / "new", "soup", "--where", "Datum<=2026-06-30")
    assert "--date-format 'Datum=%d.%m.%Y'" in cli.error(*words)
    declared = ("--date-format", "Datum=%d.%m.%Y")
    assert [hit["id"] for hit in cli.json(*words, *declared)] == ["0"]
    lines = cli.jsonl("export", tmp_path / "new", *words[-2:], *declared)
    assert [line["id"] for line in lines] == ["0"]
    assert "the date format '%d' of the field 'Datum' needs" in cli.error(
        *words, "--date-format", "Datum=%d"
    )
    assert cli.usage(*words[:3], *declared) == "--date-format requires --where"
    assert "is not FIELD=FORMAT" in cli.usage(*words, "--date-format", "%d.%m.%Y")


def test_a_filter_without_matches_is_a_note_or_the_error(
    cli: Cli, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = "no document matches the filter (label=Card): did you mean card?"
    assert cli.json("search", shared, QUERY, "--where", "label=Card") == []
    assert caplog.messages == [said]
    for command in (("classify", shared, QUERY), ("evaluate", shared), ("suspects", shared)):
        assert cli.error(*command, "--where", "label=Card") == said


def test_conditions_are_joined(cli: Cli, shared: Path) -> None:
    where = "(label=rain or label in (card)) and not (stars<3 or stars is null)"
    hits = cli.json("search", shared, QUERY, "--where", where, "-k", 100)
    wanted = [one["id"] for one in DOCUMENTS if one.get("label") in ("rain", "card")]
    assert hits
    assert {hit["id"] for hit in hits} <= set(wanted)
    assert all(hit["metadata"]["stars"] >= 3 for hit in hits)


@pytest.mark.parametrize("command", ["search", "classify"])
def test_several_single_words_are_several_texts_and_a_note_says_so(
    cli: Cli, shared: Path, command: str
) -> None:
    words = ["where", "is", "my", "card"]
    done = cli.ok(command, shared, *words, "--jsonl")
    assert done.stderr == (
        "Each of the 4 words is a text of its own: quote them to ask about one, "
        "'where is my card'\n"
    )
    asked = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(dict.fromkeys(one.get("query", one.get("text")) for one in asked)) == words
    assert cli.ok(command, shared, *words, "--jsonl", "-q").stderr == ""
    for texts in (["card"], ["where is it", "my card"], ["my card", "card"]):
        assert cli.ok(command, shared, *texts, "--jsonl").stderr == ""
