"""``layerdex get``, ``delete``, ``export`` and ``info``."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from tests.cli.corpus import DOCUMENTS, EXPORTED, read_jsonl, write_jsonl
from tests.cli.runner import Cli
from tests.cli.test_delete_command import REMAINS
from tests.cli.words import nearest

BYTES = "{} would be deleted; 'layerdex compact' would then free {} bytes of vectors\n"


def test_get_prints_documents_in_the_order_asked(cli: Cli, path: Path) -> None:
    documents = read_jsonl(cli.data("get", path, "food-2", "card-0"))
    assert documents == [EXPORTED[8], EXPORTED[0]]
    assert cli.json("get", path, "food-2", "card-0") == documents


def test_get_keeps_characters_as_they_are(cli: Cli, tmp_path: Path) -> None:
    text = "Grüße – 你好 \x1b[31m \U0001f600"
    source = write_jsonl(tmp_path / "s.jsonl", [{"id": "é", "text": text}])
    cli.ok("index", tmp_path / "new", source)
    assert cli.data("get", tmp_path / "new", "é") == (
        '{"id": "é", "text": "Grüße – 你好 \\u001b[31m \U0001f600", "label": null, '
        '"metadata": {}}\n'
    )


def test_get_of_a_missing_id_prints_nothing(cli: Cli, path: Path) -> None:
    assert cli.error("get", path, "card-0", "nobody") == "no document has the id 'nobody'"


def test_delete_takes_documents_out_of_every_answer(cli: Cli, path: Path) -> None:
    result = cli.ok("delete", path, "card-1", "bare")
    assert (result.stdout, result.stderr) == ("", "2 deleted, 18 left\n" + REMAINS)
    left = [one for one in DOCUMENTS if one["id"] not in {"card-1", "bare"}]
    assert [one["id"] for one in cli.jsonl("export", path)] == [one["id"] for one in left]
    query = str(DOCUMENTS[1]["text"])
    hits = cli.json("search", path, query, "-k", 100)
    assert [hit["id"] for hit in hits] == [name for name, _ in nearest(query, left, 3)]
    assert cli.error("get", path, "card-1") == "no document has the id 'card-1'"
    info = cli.json("info", path)
    assert (info["n_documents"], info["n_dead"]) == (18, 2)


def test_delete_of_a_missing_id_deletes_nothing(cli: Cli, path: Path) -> None:
    for words in (["card-1", "nobody"], ["nobody", "card-1"], ["card-1", "nobody", "--dry-run"]):
        assert cli.error("delete", path, *words) == "no document has the id 'nobody'"
    assert cli.jsonl("export", path) == EXPORTED


def test_delete_counts_an_id_given_twice_once(cli: Cli, path: Path) -> None:
    words = ("delete", path, "card-1", "card-1")
    assert cli.ok(*words, "--dry-run").stderr == BYTES.format(1, 128)
    assert cli.ok(*words).stderr == "1 deleted, 19 left\n" + REMAINS


def test_a_dry_run_deletes_nothing(cli: Cli, path: Path) -> None:
    result = cli.ok("delete", path, "card-1", "food-1", "--dry-run")
    assert (result.stdout, result.stderr) == ("", BYTES.format(2, 256))
    assert cli.jsonl("export", path) == EXPORTED


def test_quiet_delete_says_nothing(cli: Cli, path: Path) -> None:
    assert cli.data("delete", path, "card-1", "-q") == ""


@pytest.mark.parametrize(
    "words",
    [["delete", "I", "bare"], ["compact", "I"], ["evaluate", "I", "--save-best", "-q"]],
)
def test_a_second_writer_waits_and_gives_up(cli: Cli, path: Path, words: list[str]) -> None:
    with FileLock(path / "writer.lock"):
        command = [path if word == "I" else word for word in words]
        result = cli(*command, "--lock-timeout", "0.1")
    assert result.exit_code == 75
    assert re.fullmatch(
        rf"Error: (another process is|this process is already) writing to {path} "
        r"\(waited 0\.1 s\); try again later\n",
        result.stderr,
    )


def test_export_writes_every_document_in_input_order(cli: Cli, path: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert read_jsonl(cli.data("export", path)) == EXPORTED
    result = cli.ok("export", path, "-o", output)
    assert (result.stdout, result.stderr) == ("", f"20 documents written to {output}\n")
    assert output.read_text("utf-8") == cli.data("export", path)


def test_export_keeps_the_place_of_an_updated_document(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    changed = {**DOCUMENTS[4], "text": "now it says something else"}
    cli.ok("index", path, write_jsonl(tmp_path / "changed.jsonl", [changed]))
    expected = [*EXPORTED[:4], {**EXPORTED[4], "text": changed["text"]}, *EXPORTED[5:]]
    assert cli.jsonl("export", path) == expected


def test_export_can_be_limited(cli: Cli, path: Path) -> None:
    documents = cli.jsonl("export", path, "--where", "label=food", "--where", "stars>=4")
    assert documents == EXPORTED[10:12]


def test_export_writes_parquet_by_the_name_of_the_file(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    result = cli.ok("export", path, "-o", output)
    assert (result.stdout, result.stderr) == ("", f"20 documents written to {output}\n")
    assert cli.data("index", path, output).startswith("20 read = 0 new + 0 updated + 20 unch")
    cli.ok("index", tmp_path / "again", output)
    assert cli.jsonl("export", tmp_path / "again") == EXPORTED
    cli.ok("export", path, "-o", tmp_path / "any", "--format", "parquet")
    assert (tmp_path / "any").read_bytes() == output.read_bytes()


def test_export_writes_the_vectors_of_the_layers_asked_for(cli: Cli, path: Path) -> None:
    for words, layers in [([], [3]), (["--layer", "0,2"], [0, 2]), (["--layer", "all"], range(4))]:
        documents = cli.jsonl("export", path, "--vectors", *words)
        names = [f"vector_{layer}" for layer in layers]
        assert all(list(one)[4:] == names for one in documents)
        assert all(len(one[name]) == 16 for one in documents for name in names)
        assert [{name: one[name] for name in list(one)[:4]} for one in documents] == EXPORTED


def test_export_refuses_what_it_cannot_do(cli: Cli, path: Path) -> None:
    assert {"--layer", "--vectors"} <= set(cli.usage("export", path, "--layer", "3").split())
    assert "standard output" in cli.error("export", path, "--format", "parquet")
    assert "layer 9" in cli.error("export", path, "--vectors", "--layer", "9")


def test_export_to_csv_makes_an_index_with_metadata_as_text(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    before = cli.jsonl("export", path)
    result = cli.ok("export", path, "-o", tmp_path / "all.csv")
    assert result.stderr == f"{len(before)} documents written to {tmp_path / 'all.csv'}\n"
    again = tmp_path / "again"
    cli.ok("index", again, tmp_path / "all.csv")
    for row in before:
        row["metadata"] = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in row["metadata"].items()
        }
    assert cli.jsonl("export", again) == before
    assert "csv holds no vectors" in cli.error(
        "export", path, "--vectors", "-o", tmp_path / "other.csv"
    )


def test_export_to_npy_writes_the_ids_beside_it(cli: Cli, path: Path, tmp_path: Path) -> None:
    target, beside = tmp_path / "x.npy", tmp_path / "x.ids.json"
    result = cli.ok("export", path, "-o", target, "--layer", 1)
    ids = json.loads(beside.read_text())
    assert ids == [row["id"] for row in cli.jsonl("export", path)]
    assert result.stderr == f"{len(ids)} vectors written to {target}, their ids to {beside}\n"
    assert len(np.load(target)) == len(ids)
    target.unlink()
    assert f"{beside} exists" in cli.error("export", path, "-o", target)
    assert "standard output" in cli.error("export", path, "--format", "npy")
    words = ("export", path, "-o", tmp_path / "y.npy", "--where", "lang=en")
    assert "holds no metadata: leave out" in cli.error(*words, "--metadata", "columns")


def test_export_to_flat_parquet_has_a_column_per_field(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    cli.ok("export", path, "-o", tmp_path / "flat.parquet", "--metadata", "columns")
    names = {name for row in cli.jsonl("export", path) for name in row["metadata"]}
    columns = pq.read_table(tmp_path / "flat.parquet").column_names
    assert columns == ["id", "text", "label", *sorted(names)]


def test_export_to_a_name_of_another_format_is_refused(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    output = tmp_path / "all.tsv"
    assert ".jsonl, .ndjson, .parquet, .pq" in cli.error("export", path, "-o", output)
    assert not output.exists()
    cli.ok("export", path, "-o", output, "--format", "jsonl")
    assert read_jsonl(output.read_text("utf-8")) == EXPORTED


def test_export_to_a_dash_is_standard_output(
    cli: Cli, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert cli.jsonl("export", path, "-o", "-") == EXPORTED
    assert sorted(tmp_path.iterdir()) == before
    assert "standard output" in cli.error("export", path, "-o", "-", "--format", "parquet")


def test_export_that_cannot_be_written_leaves_nothing(cli: Cli, path: Path, tmp_path: Path) -> None:
    output = tmp_path / "nowhere" / "out.jsonl"
    message = cli.error("export", path, "-o", output)
    assert message == f"cannot write {output}: No such file or directory"
    before = sorted(tmp_path.iterdir())
    assert "no document has a field 'colour'" in cli.error(
        "export", path, "--where", "colour=red", "-o", tmp_path / "out.jsonl"
    )
    assert sorted(tmp_path.iterdir()) == before


def test_export_writes_into_a_pipe_and_does_not_replace_it(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    # As root, replacing would also hit /dev/null and /dev/stdout.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        cli.ok("export", path, "-o", pipe)
        assert stat.S_ISFIFO(pipe.stat().st_mode)
        assert read_jsonl(os.read(reader, 1 << 16).decode()) == EXPORTED
    finally:
        os.close(reader)


def test_export_writes_into_a_pipe_that_has_no_name(cli: Cli, path: Path) -> None:
    read, written = os.pipe()
    with os.fdopen(read, "rb") as reader:
        try:
            cli.ok("export", path, "-o", f"/dev/fd/{written}")
        finally:
            os.close(written)
        assert read_jsonl(reader.read().decode()) == EXPORTED


def test_export_follows_a_link(cli: Cli, path: Path, tmp_path: Path) -> None:
    link, target = tmp_path / "link.jsonl", tmp_path / "target.jsonl"
    link.symlink_to(target)
    cli.ok("export", path, "-o", link)
    assert link.is_symlink()
    assert read_jsonl(target.read_text("utf-8")) == EXPORTED


def test_info_json_has_counts_sizes_and_settings(cli: Cli, path: Path) -> None:
    info = cli.json("info", path)
    assert len(info.pop("fingerprint")) > 10
    assert info.pop("token_budget") > 0
    assert info == {
        "n_documents": 20,
        "n_dead": 0,
        "n_segments": 3,
        "n_truncated": 0,
        "n_unknown": 0,
        "n_unreadable": 0,
        "size_bytes": sum(one.stat().st_size for one in path.rglob("*") if one.is_file()),
        "layers": [0, 1, 2, 3],
        "depth": 3,
        "width": 16,
        "precision": "float16",
        "model": "minilm",
        "revision": None,
        "pooling": "mean",
        "template": "{text}",
        "query_template": None,
        "adapter": None,
        "max_length": 12,
        "long": "truncate",
        "window": 8,
        "window_bytes": None,
        "pads": True,
        "calibration_file": None,
        "quantization": None,
        "labels": {"card": 7, "food": 6, "rain": 6},
        "best_layer": None,
        "approximate": None,
        "transform": None,
        "head": None,
        "source_fields": {"text": "text", "id": "id", "label": "label", "metadata": None},
        "date_formats": {},
    }


def test_info_is_a_table(cli: Cli, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    title, *lines = cli.data("info", path.name).splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line.strip()]
    shown = {name: value.strip() for name, value in rows}
    assert title.rstrip() == "my-index"
    assert shown["documents"] == "20 live, 0 dead versions"
    assert shown["layers"] == "0-3 of 0-3, width 16"
    assert shown["precision"] == "float16"
    assert shown["labels"] == "card (7), food (6), rain (6)"
    assert shown["template"] == "{text}"
    assert shown["model"] == "minilm"


def test_info_shows_the_most_frequent_labels(cli: Cli, tmp_path: Path) -> None:
    rows = [{"text": f"word{i} word{j}", "label": f"l{i}"} for i in range(7) for j in range(i + 1)]
    cli.ok("index", tmp_path / "new", write_jsonl(tmp_path / "s.jsonl", rows))
    assert "l6 (7), l5 (6), l4 (5), l3 (4), l2 (3) and 2 more" in cli.data("info", tmp_path / "new")


def test_labels_that_look_alike_are_noted_and_quoted(cli: Cli, tmp_path: Path) -> None:
    labels = ["wet", "wet", "wet", "dry", "dry", "wet ", "4", "4.0"]
    rows = [{"text": f"word{i}", "label": label} for i, label in enumerate(labels)]
    source = write_jsonl(tmp_path / "s.jsonl", rows)
    note = (
        "Labels that differ only in blanks, Unicode form or a trailing .0 are different labels: "
        "'wet', 'wet '; '4', '4.0'\n"
    )
    assert note in cli.ok("index", tmp_path / "new", source).stderr
    assert note not in cli.ok("index", tmp_path / "new", source).stderr  # nothing has changed
    shown = cli.data("info", tmp_path / "new")
    assert "'wet' (3), dry (2), '4' (1), '4.0' (1), 'wet ' (1)" in shown


def test_info_lists_no_truncated_texts_where_there_are_none(cli: Cli, path: Path) -> None:
    assert cli.data("info", path, "--truncated") == ""
    assert cli.json("info", path, "--truncated") == []


def test_results_are_not_written_over_the_index_or_each_other(
    cli: Cli, path: Path, source: Path, tmp_path: Path
) -> None:
    catalog = path / "catalog.sqlite3"
    before = catalog.read_bytes()
    for words in (
        ("export", path, "-o"),
        ("dedup", path, "-o"),
        ("dedup", path, "--clusters"),
        ("index", path, source, "--on-error", "skip", "--rejects"),
    ):
        assert "is inside the index" in cli.error(*words, catalog)
    assert catalog.read_bytes() == before
    picture = path / "segments" / "curve.png"
    assert "is inside the index" in cli.error("evaluate", path, "--plot", picture)
    assert not picture.exists()
    same = tmp_path / "same.jsonl"
    assert "one file" in cli.error("dedup", path, "-o", same, "--clusters", same)
    assert not same.exists()
