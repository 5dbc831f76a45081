"""``layerdex index``: what it makes, says, refuses and leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from layerdex import Index
from layerdex.errors import LockedIndexError
from tests.cli.corpus import DOCUMENTS, EXPORTED, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import WINDOW, WordTransformer, nearest

BAD_ROW = {"id": "bad", "text": ""}


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A path where there is nothing yet."""
    return tmp_path / "new"


def test_a_first_run_creates_the_index(cli: Cli, new: Path, source: Path) -> None:
    result = cli.ok("index", new, source)
    assert result.stderr == f"Created {new}\n"
    assert result.stdout == (
        "20 read = 20 new + 0 updated + 0 unchanged + 0 rejected\n"
        "20 documents in the index, layers 0-3 of minilm\n"
    )
    assert cli.jsonl("export", new) == EXPORTED


def test_int8_is_not_forced_on_an_index_that_is_not_in_it(
    cli: Cli, path: Path, source: Path
) -> None:
    assert cli.error("index", path, source, "--force-int8") == (
        "this index was not made in int8, and --force-int8 is for a new one: leave the option "
        "out, or make a new index"
    )


def test_a_file_to_calibrate_by_in_no_ones_home_is_an_error(
    cli: Cli, new: Path, source: Path
) -> None:
    words = ("index", new, source, "--dtype", "int8", "--calibrate", "~nosuchuser/x")
    assert cli.error(*words) == "~nosuchuser/x: there is no home folder of that name"
    assert not new.exists()


def test_quiet_leaves_only_the_data(cli: Cli, new: Path, source: Path) -> None:
    assert cli.data("index", new, source, "-q").startswith("20 read = 20 new")


def test_a_second_run_changes_nothing(cli: Cli, path: Path, source: Path) -> None:
    before = cli.json("info", path)
    assert cli.data("index", path, source) == (
        "20 read = 0 new + 0 updated + 20 unchanged + 0 rejected\n"
        "20 documents in the index, layers 0-3 of minilm\n"
    )
    assert cli.json("info", path) == before


def test_the_sum_counts_every_row_once(cli: Cli, path: Path, tmp_path: Path) -> None:
    rows = [
        {**DOCUMENTS[0], "text": "another text"},
        {**DOCUMENTS[1], "label": "other"},
        DOCUMENTS[2],
        DOCUMENTS[3],
        {"id": "fresh", "text": "a fresh text"},
        BAD_ROW,
    ]
    changed = write_jsonl(tmp_path / "changed.jsonl", rows)
    result = cli.ok("index", path, changed, "--on-error", "skip")
    assert result.stderr == f"Skipped {changed}:6: text is empty\n"
    assert result.stdout == (
        "6 read = 1 new + 2 updated + 2 unchanged + 1 rejected\n"
        "21 documents in the index, layers 0-3 of minilm\n"
    )
    first, second = cli.jsonl("get", path, DOCUMENTS[0]["id"], DOCUMENTS[1]["id"])
    assert first == {**EXPORTED[0], "text": "another text"}
    assert second == {**EXPORTED[1], "label": "other"}


def test_json_is_the_sum(cli: Cli, new: Path, source: Path) -> None:
    assert cli.json("index", new, source) == {
        "n_read": 20,
        "n_new": 20,
        "n_updated": 0,
        "n_unchanged": 0,
        "n_blank": 0,
        "n_repeated": 0,
        "n_rejected": 0,
        "n_encoded": 20,
        "n_truncated": 0,
        "n_unknown": 0,
        "n_unreadable": 0,
        "n_removed": 0,
        "n_documents": 20,
    }


def test_unknown_tokens_are_counted_and_listed(
    cli: Cli, new: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["😀", "my 😀 card", "my card", "👍"]
    rows = [{"id": str(i), "text": text, "label": "a"} for i, text in enumerate(texts)]
    result = cli.ok("index", new, write_jsonl(tmp_path / "s.jsonl", rows))
    assert result.stderr.splitlines()[1:] == [
        "3 texts with unknown tokens; 2 of them have nothing else: "
        f"see 'layerdex info {new} --unknown'"
    ]
    assert cli.jsonl("info", new, "--unknown") == [
        {"id": "0", "n_tokens": 1, "n_unknown": 1, "unreadable": True, "text": "😀"},
        {"id": "1", "n_tokens": 3, "n_unknown": 1, "unreadable": False, "text": "my 😀 card"},
        {"id": "3", "n_tokens": 1, "n_unknown": 1, "unreadable": True, "text": "👍"},
    ]
    assert "3 texts with unknown tokens; 2 of them have nothing else" in cli.data("info", new)
    assert "cannot be used with" in cli.usage("info", new, "--unknown", "--truncated")
    cli.ok("classify", new, "👾", "-k", "1")
    assert "knows no part of the text '👾'" in caplog.text
    assert (
        "2 documents compared by text only: the tokenizer knows no token of them"
        in cli.data("dedup", new).splitlines()
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["😀", "my 😀 card"], "2 texts with unknown tokens; 1 of them has nothing else"),
        (["my 😀 card"], "1 text with unknown tokens"),
        (["😀"], "1 text with nothing but unknown tokens"),
        (["😀", "👍"], "2 texts with nothing but unknown tokens"),
    ],
)
def test_unknown_tokens_are_told_in_the_singular_and_the_plural(
    texts: list[str], message: str, cli: Cli, new: Path, tmp_path: Path
) -> None:
    source = write_jsonl(tmp_path / "s.jsonl", [{"text": text} for text in texts])
    assert f"{message}: see" in cli.ok("index", new, source).stderr
    if message.endswith("1 of them has nothing else"):
        assert "text only: the tokenizer knows no token of it" in cli.data("dedup", new)


GERMAN = "Ich warte seit zwei Wochen auf meine neue Karte und in der Filiale weiss das niemand"
ENGLISH = "I have been waiting for my new card for two weeks and nobody knows where it is"
NOT_ENGLISH = "minilm was trained on English, and these texts do not look English"


@pytest.mark.parametrize(
    ("texts", "is_noted"),
    [
        ([f"{GERMAN} {i}" for i in range(30)], True),
        ([f"{ENGLISH} {i}" for i in range(30)], False),
        ([GERMAN], False),  # too few words to tell
        (["电池坏了 😀"], True),  # with unknown tokens few are enough
        (["where is my card 😀"], False),
    ],
)
def test_a_first_run_over_another_language_names_a_multilingual_model(
    cli: Cli, new: Path, tmp_path: Path, texts: list[str], is_noted: bool
) -> None:
    source = write_jsonl(tmp_path / "s.jsonl", [{"text": text} for text in texts])
    said = cli.ok("index", new, source).stderr
    assert (NOT_ENGLISH in said) == is_noted
    assert ("--model sentence-transformers/paraphrase-multilingual" in said) == is_noted
    assert NOT_ENGLISH not in cli.ok("index", new, source).stderr


def test_only_the_packaged_model_is_said_to_be_english(cli: Cli, new: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{GERMAN} {i}"} for i in range(30)]
    source = write_jsonl(tmp_path / "s.jsonl", rows)
    assert NOT_ENGLISH not in cli.ok("index", new, source, "--model", "another").stderr
    assert "English" not in cli.data("info", new)
    cli.ok("index", tmp_path / "packaged", source)
    assert "English; for others take a multilingual model" in cli.data(
        "info", tmp_path / "packaged"
    )


def test_a_tab_is_shown_as_one(cli: Cli, new: Path, tmp_path: Path) -> None:
    source = tmp_path / "s.tsv"
    source.write_text('text\tn\n"a"b\t1\n')
    assert r"'\t' expected after" in cli("index", new, source, "--quoting", "csv").stderr


def test_cut_texts_are_counted_and_listed(cli: Cli, new: Path, tmp_path: Path) -> None:
    rows = [{"id": "long", "text": "word " * 13}, {"id": "short", "text": "word " * 12}]
    result = cli.ok("index", new, write_jsonl(tmp_path / "s.jsonl", rows))
    assert "longer than 12 tokens" in result.stderr
    assert f"'layerdex info {new} --truncated'" in result.stderr
    cut = [{"id": "long", "n_characters": 65, "n_tokens_kept": 12, "text": "word " * 13}]
    assert cli.jsonl("info", new, "--truncated") == cut
    assert cli.json("info", new, "--truncated") == cut
    assert cli.json("info", new)["n_truncated"] == 1


def test_only_the_selected_layers_are_kept(cli: Cli, new: Path, source: Path) -> None:
    result = cli.ok("index", new, source, "--layers", "0,2-3")
    assert result.stdout.endswith("20 documents in the index, layers 0,2-3 of minilm\n")
    assert sorted({one.name for one in new.rglob("*.faiss")}) == [
        "layer-00.faiss",
        "layer-02.faiss",
        "layer-03.faiss",
    ]
    assert cli.json("info", new)["layers"] == [0, 2, 3]
    message = cli.error("search", new, "a card", "--layer", "1")
    assert message == ("layer 1 is not in this index: it holds 0,2-3 of a model with layers 0 to 3")


def test_the_template_is_around_documents_and_queries(cli: Cli, new: Path, source: Path) -> None:
    template = "they said {text} again"
    cli.ok("index", new, source, "--template", template)
    assert cli.json("info", new)["template"] == template
    hits = cli.json("search", new, "where is my card", "-k", 5)
    expected = nearest("where is my card", DOCUMENTS, 3, template=template)[:5]
    assert [hit["id"] for hit in hits] == [identifier for identifier, _ in expected]


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_the_precision_asked_for_stays(cli: Cli, new: Path, source: Path, precision: str) -> None:
    cli.ok("index", new, source, "--precision", precision)
    assert cli.json("info", new)["precision"] == precision
    (hit,) = cli.json("search", new, DOCUMENTS[0]["text"], "-k", "1")
    assert (hit["id"], hit["similarity"]) == (DOCUMENTS[0]["id"], 1.0)
    assert cli.ok("index", new, source).stdout.startswith("20 read = 0 new + 0 updated + 20 unch")
    other = "int8" if precision != "int8" else "float32"
    assert cli.error("index", new, source, "--precision", other) == (
        f"this index was made with precision '{precision}', not '{other}': "
        "leave the option out, or make a new index"
    )


@pytest.mark.parametrize(
    ("option", "given", "stored"),
    [
        ("--model", "other", "minilm"),
        ("--layers", "1", "0-3"),
        ("--pooling", "cls", "mean"),
        ("--template", "A question: {text}", "{text}"),
        ("--max-length", "5", "12"),
        ("--precision", "int8", "float16"),
        ("--long", "chunk", "truncate"),
    ],
)
def test_an_option_that_differs_from_the_index_is_an_error(
    cli: Cli, path: Path, source: Path, option: str, given: str, stored: str
) -> None:
    assert cli.error("index", path, source, option, given) == (
        f"this index was made with {option.strip('-').replace('-', ' ')} '{stored}', "
        f"not '{given}': leave the option out, or make a new index"
    )


def test_options_that_agree_with_the_index_are_welcome(cli: Cli, path: Path, source: Path) -> None:
    options = ["--layers", "all", "--pooling", "mean", "--max-length", "12", "--model", "minilm"]
    options += ["--template", "{text}", "--precision", "float16"]
    options += ["--long", "truncate"]
    result = cli.ok("index", path, source, *options)
    assert result.stdout.startswith("20 read = 0 new + 0 updated + 20 unchanged")


def test_what_becomes_of_long_texts_is_stored(cli: Cli, new: Path, source: Path) -> None:
    cli.ok("index", new, source, "--long", "chunk")
    assert cli.json("info", new)["long"] == "chunk"
    assert "chunk at 12 tokens" in cli.data("info", new)
    assert cli.ok("index", new, source).stdout.startswith("20 read = 0 new")
    assert "made with long 'chunk'" in cli.error("index", new, source, "--long", "truncate")
    assert cli.json("search", new, "where is my card", "-k", 1)


def test_skipped_rows_are_shown_and_written(cli: Cli, new: Path, tmp_path: Path) -> None:
    other = {**DOCUMENTS[0], "text": "another text"}
    rows = [DOCUMENTS[0], *[{"id": f"bad-{i}", "text": " "} for i in range(7)], other]
    source, rejects = write_jsonl(tmp_path / "s.jsonl", rows), tmp_path / "rejects.jsonl"
    result = cli.ok("index", new, source, "--on-error", "skip", "--rejects", rejects)
    assert result.stdout.startswith("9 read = 1 new + 0 updated + 0 unchanged + 8 rejected\n")
    skipped = "".join(f"Skipped {source}:{line}: text is blank\n" for line in range(2, 7))
    assert result.stderr == f"{skipped}… and 3 more rows skipped\nCreated {new}\n"
    assert [json.loads(line) for line in rejects.read_text("utf-8").splitlines()] == [
        *[{"source": str(source), "line": n, "reason": "text is blank"} for n in range(2, 9)],
        {
            "source": str(source),
            "line": 9,
            "reason": f"id 'card-0' was already given at {source}:1, with other content",
        },
    ]


def test_a_run_that_rejects_every_row_fails_after_its_counts(
    cli: Cli, new: Path, path: Path, tmp_path: Path
) -> None:
    source = write_jsonl(tmp_path / "s.jsonl", [BAD_ROW, BAD_ROW])
    result = cli("index", new, source, "--on-error", "skip", "-q")
    assert result.exit_code == 1
    assert result.stdout == (
        "2 read = 0 new + 0 updated + 0 unchanged + 2 rejected\n"
        "0 documents in the index, layers 0-3 of minilm\n"
    )
    assert "every row" in result.stderr
    assert result.stderr.endswith(f"{new} was not created\n")
    assert not new.exists()
    before = cli.json("info", path)
    result = cli("index", path, source, "--on-error", "skip", "--json", "-q")
    assert (result.exit_code, json.loads(result.stdout)["n_rejected"]) == (1, 2)
    assert result.stderr.endswith(f"{path} is unchanged\n")
    assert cli.json("info", path) == before


def test_rejects_that_cannot_be_written_are_said_before_the_work(
    cli: Cli, new: Path, source: Path, tmp_path: Path
) -> None:
    rejects = tmp_path / "nowhere" / "rejects.jsonl"
    message = cli.error("index", new, source, "--on-error", "skip", "--rejects", rejects, "-q")
    assert message == f"cannot write {rejects}: there is no folder {rejects.parent}"
    assert not new.exists()


def test_a_bad_row_stops_the_run_and_leaves_what_was_committed(
    cli: Cli, new: Path, tmp_path: Path
) -> None:
    rows = [*DOCUMENTS[: WINDOW + 3], BAD_ROW, *DOCUMENTS[WINDOW + 3 :]]
    source = write_jsonl(tmp_path / "s.jsonl", rows)
    assert cli.error("index", new, source, "-q") == f"{source}:{WINDOW + 4}: text is empty"
    assert cli.jsonl("export", new) == EXPORTED[:WINDOW]
    write_jsonl(source, DOCUMENTS)
    result = cli.ok("index", new, source)
    assert result.stdout.startswith(f"20 read = {20 - WINDOW} new + 0 updated + {WINDOW} unchanged")
    assert cli.jsonl("export", new) == EXPORTED


@pytest.mark.parametrize(
    ("first_words", "message"),
    [
        ([], "s.jsonl:1: text is empty"),
        (["--layers", "4"], "layer 4 does not exist: this model has layers 0 to 3"),
        (["--text-field", "body"], "s.jsonl:1: no text field 'body'; there is 'id', 'text'"),
        (["--template", "no place"], "template 'no place' must contain {text} exactly once"),
    ],
)
def test_a_first_run_that_fails_is_not_in_the_way_of_the_second(
    cli: Cli, new: Path, tmp_path: Path, first_words: list[str], message: str
) -> None:
    source = write_jsonl(tmp_path / "s.jsonl", [BAD_ROW, *DOCUMENTS])
    assert message in cli.error("index", new, source, *first_words, "-q")
    assert not new.exists()
    words = ["--layers", "0", "--pooling", "cls", "--on-error", "skip"]
    assert cli.ok("index", new, source, *words).stdout.startswith("21 read = 20 new")


def test_a_failed_first_run_takes_nothing_with_it(cli: Cli, new: Path, tmp_path: Path) -> None:
    # A name that begins like one of an index's own is not in the way of creation.
    precious = new / "segments-of-mine" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work", encoding="utf-8")
    cli.error("index", new, write_jsonl(tmp_path / "s.jsonl", [BAD_ROW]), "-q")
    assert precious.exists()


def test_a_run_that_lost_the_lock_leaves_the_winners_index(
    cli: Cli, new: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, lock = Index.create, FileLock(new / "writer.lock")

    def create_and_lose_the_lock(path: Path, **options: Any) -> Index:
        made = create(path, **options)
        lock.acquire()
        return made

    monkeypatch.setattr(Index, "create", create_and_lose_the_lock)
    result = cli("index", new, source, "--lock-timeout", "0", "-q")
    lock.release()
    assert (result.exit_code, result.stdout) == (LockedIndexError.exit_code, "")
    assert re.fullmatch(
        rf"Error: (another process is|this process is already) writing to {new} "
        r"\(waited 0 s\); try again later\n",
        result.stderr,
    )
    assert cli.json("info", new)["n_documents"] == 0


def test_sources_are_checked_before_anything_is_made(
    cli: Cli, new: Path, source: Path, tmp_path: Path
) -> None:
    message = cli.error("index", new, source, tmp_path / "missing.jsonl")
    assert message == f"cannot read {tmp_path}/missing.jsonl: no such file or directory"
    assert not new.exists()


def test_interruption_keeps_what_was_committed(
    cli: Cli, new: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = WordTransformer.encode

    def encode_once(self: WordTransformer, texts: Any, layers: Any) -> Any:
        if self.encoded:
            raise KeyboardInterrupt
        return encode(self, texts, layers)

    monkeypatch.setattr(WordTransformer, "encode", encode_once)
    result = cli("index", new, source, "-q")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == (
        f"Interrupted; {WINDOW} documents are in the index; run the same command again to go on\n"
    )
    monkeypatch.undo()
    assert cli.jsonl("export", new) == EXPORTED[:WINDOW]


def test_interruption_before_the_first_commit_leaves_nothing(
    cli: Cli, new: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WordTransformer, "encode", interrupt)
    result = cli("index", new, source, "-q")
    assert result.exit_code == 130
    assert result.stderr == (
        "Interrupted; nothing was committed yet: the first commit takes some seconds, or "
        f"{WINDOW} documents; run the same command again\n"
    )
    assert not new.exists()
