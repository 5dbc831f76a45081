"""``layerdex delete`` with a file of ids or a condition, and its guard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.cli.context import Context
from layerdex.errors import OptionError, RemovalError
from tests.cli.corpus import DOCUMENTS, EXPORTED, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer

REMAINS = (
    "Their texts and vectors stay in the files until 'layerdex compact'; "
    "'layerdex delete INDEX --purge' removes every byte\n"
)
IDS = [str(one["id"]) for one in DOCUMENTS]
GERMAN = [str(one["id"]) for one in DOCUMENTS if one.get("lang") == "de"]
TWO = ["card-1", "food-2"]


def left(cli: Cli, path: Path) -> list[str]:
    return [row["id"] for row in cli.jsonl("export", path)]


def test_documents_go_by_a_condition(cli: Cli, path: Path) -> None:
    words = ("delete", path, "--where", "lang=de", "--where", "stars>1")
    assert cli.ok(*words, "--max-removed", "50%").stderr == "3 deleted, 17 left\n" + REMAINS
    gone = {"card-4", "food-4", "rain-4"}
    assert left(cli, path) == [id_ for id_ in IDS if id_ not in gone]
    assert cli.ok(*words).stderr == "0 deleted, 17 left\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "card-1\r\n\nfood-2\ncard-1\n"),
        ("ids.csv", "name;id\nx;card-1\ny;\nz;food-2\n"),
        ("ids.jsonl", '{"id": "card-1", "text": ""}\n{"id": "food-2", "x": {"y": 1}}\n'),
    ],
)
def test_ids_come_from_a_file(
    cli: Cli, path: Path, tmp_path: Path, name: str, content: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode())
    assert cli.ok("delete", path, "--ids", file).stderr == "2 deleted, 18 left\n" + REMAINS
    assert left(cli, path) == [id_ for id_ in IDS if id_ not in TWO]


def test_ids_come_from_standard_input_and_from_words_too(cli: Cli, path: Path) -> None:
    said = cli.ok("delete", path, "food-2", "--ids", "-", stdin="card-1\n").stderr
    assert said == "2 deleted, 18 left\n" + REMAINS
    assert left(cli, path) == [id_ for id_ in IDS if id_ not in TWO]


def test_ids_keep_their_zeros_and_numbers_are_their_digits(cli: Cli, tmp_path: Path) -> None:
    path, file = tmp_path / "made", tmp_path / "gone.csv"
    rows = [{"id": id_, "text": f"text {id_}"} for id_ in ("007", "7", *"abcdefghijklmnopqr")]
    Index.create(path, model=WordTransformer()).add(rows)
    file.write_text("Nr;note\n007;x\n")
    assert cli.error("delete", path, "--ids", file, "-q") == (
        f"{file}: no id field 'id'; there is 'Nr', 'note'"
    )
    cli.ok("delete", path, "--ids", file, "--id-field", "Nr")
    assert left(cli, path)[:2] == ["7", "a"]
    numbers = write_jsonl(tmp_path / "gone.jsonl", [{"id": 7}])
    cli.ok("delete", path, "--ids", numbers)
    assert left(cli, path)[0] == "a"


def test_ids_that_no_document_has_delete_nothing(cli: Cli, path: Path, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("card-1\n" + "".join(f"gone{i}\n" for i in range(1_200)))
    said = "no document has the ids 'gone0', 'gone1', 'gone2' and 1,197 more (1,200 of 1,201 ids)"
    for words in ([], ["--dry-run"]):
        assert cli.error("delete", path, "--ids", file, *words) == said
    assert cli.jsonl("export", path) == EXPORTED
    done = cli.ok("delete", path, "--ids", file, "--missing-ok").stderr
    assert done == "1 deleted, 1,200 ids not in the index, 19 left\n" + REMAINS


def test_more_ids_than_a_statement_binds_go_in_one_commit(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "many", model=WordTransformer(), layers=0)
    index.add({"id": f"d{i}", "text": f"text {i}", "even": i % 2 == 0} for i in range(2_500))
    before = index._open.store.query(lambda snapshot: snapshot.setting("commits"))
    assert index.delete(*(f"d{i}" for i in range(1, 2_500, 2))) == 1_250
    assert index.delete(where="even=true", max_removed=1.0) == 1_250
    assert index._open.store.query(lambda snapshot: snapshot.setting("commits")) == before + 2
    assert (len(index), index.verify()) == (0, [])


@pytest.mark.parametrize("by", ["--where", "--ids"])
def test_more_than_a_tenth_needs_to_be_said(cli: Cli, path: Path, tmp_path: Path, by: str) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(GERMAN))
    words = ("delete", path, by, file if by == "--ids" else "lang=de")
    assert cli.error(*words) == (
        "6 of 20 documents would be deleted, more than a tenth: nothing was deleted; "
        "--max-removed 6 allows it"
    )
    assert cli.jsonl("export", path) == EXPORTED
    assert cli.ok(*words, "--dry-run").stderr.endswith(
        "bytes of vectors\n6 of 20 documents is more than a tenth: "
        "this needs --max-removed 6, or a yes on a terminal\n"
    )
    assert cli.ok(*words, "--max-removed", "6").stderr == "6 deleted, 14 left\n" + REMAINS


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_terminal_is_asked(
    cli: Cli, path: Path, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, "can_ask", True)
    result = cli("delete", path, "--where", "lang=de", stdin=f"{answer}\n")
    assert result.stderr.startswith("Delete 6 of 20 documents? [y/N]: ")
    assert len(left(cli, path)) == (14 if answer == "y" else 20)
    assert result.exit_code == (0 if answer == "y" else 1)


def test_ids_that_are_written_out_are_not_asked_about(cli: Cli, path: Path) -> None:
    assert cli.ok("delete", path, *GERMAN).stderr == "6 deleted, 14 left\n" + REMAINS
    assert "more than 1: nothing" in cli.error("delete", path, "food-2", "bare", "--max-removed", 1)


def test_a_dry_run_lists_the_ids_as_json(cli: Cli, path: Path) -> None:
    assert cli.json("delete", path, "--where", "lang=de", "--dry-run", "--max-removed", 6) == {
        "n_deleted": 6,
        "n_missing": 0,
        "n_documents": 14,
        "ids": GERMAN,
    }
    assert cli.jsonl("export", path) == EXPORTED
    done = json.loads(cli.data("delete", path, *TWO, "gone", "--missing-ok", "--json"))
    assert done == {"n_deleted": 2, "n_missing": 1, "n_documents": 18}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give at least one ID, --ids FILE or --where CONDITION"),
        (["a", "--where", "b=c"], "[ID]... cannot be used with --where"),
        (["--ids", "f.txt", "--where", "b=c"], "--ids cannot be used with --where"),
        (["a", "--id-field", "Nr"], "--id-field requires --ids"),
    ],
)
def test_what_does_not_go_together_is_refused(
    cli: Cli, path: Path, words: list[str], said: str
) -> None:
    assert cli.usage("delete", path, *words) == said


def test_a_file_without_ids_is_an_error(cli: Cli, path: Path, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("\n\n")
    assert cli.error("delete", path, "--ids", file) == f"{file}: there are no ids"


def test_in_python_a_condition_is_guarded_and_ids_are_not(path: Path) -> None:
    index = Index.open(path, encoder=WordTransformer())
    with pytest.raises(RemovalError, match="6 of 20 documents would be deleted"):
        index.delete(where="lang=de")
    with pytest.raises(OptionError, match="ids or where, not both"):
        index.delete("card-1", where="lang=de")
    assert index.delete(where="lang=de", dry_run=True) == 6
    assert index.delete(*GERMAN[:3]) == 3
    assert index.delete(where="lang=de", max_removed=lambda n, of: (n, of) == (3, 17)) == 3
    assert index.delete(where=[]) == index.delete() == 0
    assert len(index) == 14


def contents(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())


def test_a_purge_removes_every_byte(cli: Cli, path: Path) -> None:
    texts = {str(one["id"]): str(one["text"]).encode() for one in DOCUMENTS}
    cli.ok("delete", path, "food-2")  # what was deleted before goes too
    assert texts["food-2"] in contents(path)
    said = cli.ok("delete", path, "card-1", "--purge").stderr
    assert said == "1 deleted and purged, 18 left\n"
    assert not any(texts[id_] in contents(path) for id_ in TWO)
    assert texts["card-4"] in contents(path)
    planned = cli.ok("delete", path, "card-4", "--purge", "--dry-run").stderr
    assert planned.startswith("1 would be deleted; they would be purged, with 0 dead versions")
    assert cli.ok("delete", path, "--purge").stderr == "0 deleted and purged, 18 left\n"
    assert cli.json("delete", path, "card-4", "--purge", "--json")["n_deleted"] == 1
    assert texts["card-4"] not in contents(path)


def test_a_purge_that_a_reader_outlasts_says_how_to_go_on(cli: Cli, path: Path) -> None:
    documents = Index.open(path, encoder=WordTransformer()).documents()
    next(documents)
    said = cli.error("delete", path, "card-1", "--purge", "--lock-timeout", "0.1")
    assert "still have bytes of them" in said
    assert f"run 'layerdex delete {path} --purge'" in said
    documents.close()  # type: ignore[attr-defined]
    assert "card-1" not in left(cli, path)
    again = cli.error("delete", path, "card-1", "--purge")
    assert again == (
        f"no document has the id 'card-1'; 'layerdex delete {path} --purge' purges what is deleted"
    )
    assert cli.ok("delete", path, "--purge").stderr == "0 deleted and purged, 19 left\n"


def test_a_purge_says_what_a_head_keeps(
    cli: Cli, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cli.ok("probe", path, "--layers", "1", "-k", "3", "--folds", "2", "--save")
    cli.ok("delete", path, "card-1", "--purge")
    [said] = caplog.messages
    assert "the stored head was fitted on an index with 1 text no longer in it" in said
    assert f"run 'layerdex probe {path} --save' again" in said
