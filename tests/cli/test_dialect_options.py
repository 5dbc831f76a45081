"""``--delimiter``, ``--quoting``, ``--encoding`` and ``--sheet`` of commands that read files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from layerdex.cli.options.types import SizeType
from tests.cli.conftest import Execute
from tests.cli.runner import Cli
from tests.indexer.readers.workbook import write_xlsx

SUM = "2 read = 2 new + 0 updated + 0 unchanged + 0 rejected\n"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new"


def texts(cli: Cli, path: Path) -> list[str]:
    return [one["text"] for one in cli.jsonl("export", path)]


@pytest.mark.parametrize(
    ("name", "data", "words", "expected"),
    [
        ("s.csv", b"id^text\n1^a, b\n2^c\n", ["--delimiter", "^"], ["a, b", "c"]),
        ("s.csv", b"id\ttext\n1\ta, b\n2\tc\n", ["--delimiter", "\\t"], ["a, b", "c"]),
        ("s.csv", b"text,n\n\xe9t\xe9,1\nno\xebl,2\n", ["--encoding", "cp1252"], ["été", "noël"]),
        ("s.csv", b'text,n\n"a,1\nb",2\n', ["--quoting", "none"], ['"a', 'b"']),
        ("s.tsv", b'text\tn\n"a"\t1\n"b"\t2\n', ["--quoting", "csv"], ["a", "b"]),
        (
            "s.txt",
            "\ufeffid\ttext\r\n1\ta\r\n2\tb\r\n".encode("utf-16-le"),
            ["--format", "tsv"],
            ["a", "b"],
        ),
    ],
)
def test_a_source_is_read_as_the_options_say(
    cli: Cli,
    new: Path,
    tmp_path: Path,
    name: str,
    data: bytes,
    words: list[str],
    expected: list[str],
) -> None:
    (tmp_path / name).write_bytes(data)
    assert cli.ok("index", new, tmp_path / name, *words).stdout.startswith(SUM)
    assert texts(cli, new) == expected


def test_a_sheet_can_be_named(cli: Cli, new: Path, tmp_path: Path) -> None:
    source = tmp_path / "s.xlsx"
    write_xlsx(source, {"One": [["text"], ["a"]], "Two": [["text", "n"], ["b", 1], ["c", 2]]})
    assert cli.ok("index", new, source, "--sheet", "Two").stdout.startswith(SUM)
    assert [one["metadata"] for one in cli.jsonl("export", new)] == [{"n": 1}, {"n": 2}]
    message = cli.error("index", new, source, "--sheet", "Tow")
    assert message == f"{source}: no sheet 'Tow'; there is 'One', 'Two'; try --sheet 'Two'"


@pytest.mark.parametrize("words", [[], ["--on-error", "skip"]])
@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"text;label\n\xe9;x\n\xe8;y\n", "name another encoding with --encoding, such as cp1252"),
        (b"text,n,n\na,1,2\nb,1,2\n", "'n' is the name of more than one column"),
        (b"id,body\n1,a\n2,b\n", "try --text-field body"),
        (b"text,a\0\nb,1\nc,2\n", "rename it, or name the columns to keep with --metadata-field"),
    ],
)
def test_a_fault_of_the_header_or_encoding_is_said_once(
    cli: Cli, new: Path, tmp_path: Path, words: list[str], data: bytes, advice: str
) -> None:
    source = tmp_path / "s.csv"
    source.write_bytes(data)
    result = cli("index", new, source, *words)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {source}")
    assert advice in line
    assert not new.exists()


def test_advice_can_be_followed_with_every_command_that_reads_texts(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    source = tmp_path / "s.data"
    source.write_bytes("text^n\nwo ist meine Karte für dich^1\nüber^2\n".encode("cp1252"))
    table = ["--format", "csv", "--delimiter", "^"]
    for command in ("search", "classify"):
        words = [command, path, "--input", source]
        assert "--format" in cli.error(*words)
        assert "--encoding" in cli.error(*words, *table)
        lines = cli.jsonl(*words, *table, "--encoding", "cp1252", "--jsonl")
        assert {line.get("query", line.get("text")) for line in lines} == {
            "wo ist meine Karte für dich",
            "über",
        }


HOW = [
    ("--format", "csv"),
    ("--delimiter", ";"),
    ("--encoding", "cp1252"),
    ("--quoting", "none"),
    ("--sheet", "S"),
    ("--text-field", "t"),
    ("--max-row-size", "1MB"),
]


@pytest.mark.parametrize("how", HOW)
def test_how_a_file_is_read_requires_a_file(cli: Cli, path: Path, how: tuple[str, str]) -> None:
    for command in ("search", "classify"):
        assert cli.usage(command, path, "my card", *how) == f"{how[0]} requires --input"
    needed = f"{how[0]} requires --test, --queries or --pairs"
    assert cli.usage("evaluate", path, *how) == needed


@pytest.mark.parametrize("option", ["--id-field", "--label-field", "--metadata-field"])
def test_a_field_requires_a_file(cli: Cli, path: Path, option: str) -> None:
    needed = f"{option} requires --test, --queries or --pairs"
    assert cli.usage("evaluate", path, option, "a") == needed


def test_a_test_set_queries_and_pairs_are_read_with_them(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    labelled, queries = tmp_path / "t.csv", tmp_path / "q.csv"
    labelled.write_text("text^label\nmy bank card^card\nfresh bread^food\n")
    queries.write_text("id^text\nq1^where is my card\n")
    (tmp_path / "qrels").write_text("q1 0 card-1 1\n")
    pairs = tmp_path / "p.csv"
    pairs.write_text("sentence1^sentence2^score\na card^my card^4\na card^soup^1\nrain^sun^2\n")
    few = ["--resamples", 0, "--delimiter", "^"]
    cli.ok("evaluate", path, "--test", labelled, *few)
    cli.ok("evaluate", path, "--queries", queries, "--qrels", tmp_path / "qrels", *few)
    cli.ok("evaluate", path, "--pairs", pairs, *few)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "--delimiter",
            ";;",
            "delimiter must be one character that is not a quote, or tab, got ';;'",
        ),
        (
            "--encoding",
            "klingon",
            "'klingon' is not an encoding that Python knows; names are utf-8, ",
        ),
    ],
)
def test_a_value_that_cannot_be_is_said_before_anything_is_made(
    cli: Cli, new: Path, source: Path, option: str, value: str, message: str
) -> None:
    assert cli.error("index", new, source, option, value).startswith(message)
    assert not new.exists()


def test_what_was_decided_is_one_line_on_stderr(execute: Execute, tmp_path: Path) -> None:
    source = tmp_path / "s.tsv"
    source.write_text('id\tbody\n1\t"a\n')
    code = (
        "import sys; from layerdex.indexer.readers import Fields, read_source; "
        "print(len(list(read_source(sys.argv[1], fields=Fields(text='body')))))"
    )
    done = execute("-c", code, source)
    assert done.stdout == "1\n"
    assert done.stderr == (
        f"{source}:2: quotes are part of the text, as every line fits the header so; "
        "--quoting csv lets them enclose cells\n"
    )


@pytest.mark.parametrize(
    ("size", "n_bytes"),
    [
        ("5", 5),
        ("5b", 5),
        ("2kB", 2_000),
        ("2K", 2_000),
        ("2KiB", 2_048),
        ("1.5 MB", 1_500_000),
        ("1m", 1_000_000),
        ("1MiB", 1 << 20),
        ("2GB", 2_000_000_000),
        ("1gib", 1 << 30),
    ],
)
def test_a_size_is_bytes_or_a_unit(size: str, n_bytes: int) -> None:
    assert SizeType().convert(size, None, None) == n_bytes


@pytest.mark.parametrize("size", ["", "0", "0.1", "-1", "1XB", "MB", "1e6", "1MBs", "nan", "1 0"])
def test_a_size_that_is_none_is_refused(cli: Cli, new: Path, tmp_path: Path, size: str) -> None:
    (tmp_path / "s.txt").write_text("a\n")
    message = cli.usage("index", new, tmp_path / "s.txt", "--max-row-size", size)
    assert message == (
        f"Invalid value for '--max-row-size': {size!r} is not a size such as 500kB, 256MB or 1GiB"
    )


def test_a_row_that_is_too_large_is_skipped(cli: Cli, new: Path, tmp_path: Path) -> None:
    source = tmp_path / "s.txt"
    source.write_text(f"a\n{'b ' * 1_500}\n\nc\n")
    words = ["index", new, source, "--max-row-size", "2kB"]
    reason = "longer than 2 kB; --max-row-size allows more"
    assert cli.error(*words) == f"{source}:2: {reason}"
    result = cli.ok(*words, "--on-error", "skip")
    assert result.stdout.startswith("3 read = 2 new + 0 updated + 0 unchanged + 1 rejected\n")
    assert f"Skipped {source}:2: {reason}\n" in result.stderr
    assert texts(cli, new) == ["a", "c"]
    assert cli.ok("index", new, source).stdout.startswith("3 read = 1 new")
    assert cli.error("search", new, "--input", source, "--max-row-size", "2kB").endswith(reason)


def test_standard_input_without_an_end_is_an_error(path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "layerdex", "index", str(path), "-", "--max-row-size", "1MB"]
    for format_ in ("auto", "txt", "jsonl"):
        with Path("/dev/zero").open("rb") as zeros:
            done = subprocess.run(
                [*command, "--format", format_],
                stdin=zeros,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr == ("Error: <stdin>:1: longer than 1 MB; --max-row-size allows more\n")
