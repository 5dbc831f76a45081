"""Help pages, wrong usage, and what starting a command imports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerdex import __version__
from tests.cli.conftest import Execute
from tests.cli.runner import Cli

COMMANDS = {
    "demo": "[OPTIONS] [FOLDER]",
    "index": "[OPTIONS] INDEX [SOURCE]...",
    "search": "[OPTIONS] INDEX [QUERY]...",
    "classify": "[OPTIONS] INDEX [TEXT]...",
    "evaluate": "[OPTIONS] INDEX",
    "layers": "[OPTIONS] INDEX",
    "probe": "[OPTIONS] INDEX",
    "transform": "[OPTIONS] INDEX",
    "accelerate": "[OPTIONS] INDEX",
    "tune": "[OPTIONS] INDEX ADAPTER",
    "dedup": "[OPTIONS] INDEX",
    "suspects": "[OPTIONS] INDEX",
    "labels": "[OPTIONS] COMMAND [ARGS]...",
    "get": "[OPTIONS] INDEX ID...",
    "delete": "[OPTIONS] INDEX [ID]...",
    "export": "[OPTIONS] INDEX",
    "info": "[OPTIONS] INDEX",
    "backup": "[OPTIONS] INDEX TARGET",
    "restore": "[OPTIONS] BACKUP INDEX",
    "compact": "[OPTIONS] INDEX",
    "verify": "[OPTIONS] INDEX",
    "repair": "[OPTIONS] INDEX",
    "doctor": "[OPTIONS]",
}
HEAVY = ["faiss", "numpy", "pyarrow", "sqlalchemy", "torch", "transformers"]

RUN_AND_LIST_IMPORTS = """
import json, sys
from contextlib import redirect_stdout
from io import StringIO
from layerdex.cli.main import main

found = {}
heavy, *commands = json.loads(sys.argv[1])
for words in commands:
    with redirect_stdout(StringIO()):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    found[" ".join(words[:1] + words[2:])] = [code, [m for m in heavy if m in sys.modules]]
print(json.dumps(found))
"""


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_help_page_lists_every_command_in_order(cli: Cli, option: str) -> None:
    page = cli.data(option)
    assert page.startswith("Usage: layerdex [OPTIONS] COMMAND [ARGS]...\n")
    listed = [line.split()[0] for line in page.partition("Commands:\n")[2].splitlines()]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page_of_80_columns(cli: Cli, command: str) -> None:
    page = cli.data(command, "--help")
    assert page.startswith(f"Usage: layerdex {command} {COMMANDS[command]}\n")
    assert "--help" in page
    assert max(len(line) for line in page.splitlines()) <= 80


def test_no_line_of_the_command_list_is_cut(cli: Cli) -> None:
    cut = [line for line in cli.data("--help").splitlines() if line.endswith("...")]
    assert cut == ["Usage: layerdex [OPTIONS] COMMAND [ARGS]..."]


def test_the_version_is_one_line(cli: Cli) -> None:
    assert cli.data("--version") == f"layerdex, version {__version__}\n"


def test_help_pages_import_nothing_heavy(execute: Execute) -> None:
    pages = [["--help"], *([command, "--help"] for command in COMMANDS)]
    done = execute("-c", RUN_AND_LIST_IMPORTS, json.dumps([HEAVY, *pages]))
    assert done.stderr == ""
    assert set(map(str, json.loads(done.stdout).values())) == {"[0, []]"}


def test_commands_that_need_no_model_import_no_torch(
    execute: Execute, path: Path, source: Path, tmp_path: Path
) -> None:
    commands = [
        ["info", path],
        ["get", path, "card-1"],
        ["search", path, "--like", "card-1"],
        ["dedup", path, "--json"],
        ["dedup", path, "-o", tmp_path / "kept.jsonl", "--clusters", tmp_path / "who.jsonl"],
        ["dedup", path, "--suggest"],
        ["layers", path, "--json"],
        ["export", path, "-o", tmp_path / "exported.jsonl"],
        ["evaluate", path, "--save-best", "--report"],
        ["index", path, source],
        ["delete", path, "card-1"],
        ["compact", path],
        ["verify", path],
        ["repair", path],
    ]
    words = [[str(word) for word in command] for command in commands]
    heavy = ["torch", "transformers"]
    done = execute("-c", RUN_AND_LIST_IMPORTS, json.dumps([heavy, *words]))
    found = json.loads(done.stdout)
    assert len(found) == len(commands)
    assert {name: ended for name, ended in found.items() if ended != [0, []]} == {}


def test_questions_to_stored_vectors_import_no_package_of_models(
    execute: Execute, path: Path
) -> None:
    heavy = ["torch", "transformers", "openvino", "tokenizers", "sqlalchemy.orm"]
    commands = [
        ["info", str(path)],
        ["search", str(path), "--like", "card-1"],
        ["dedup", str(path)],
        ["delete", str(path), "card-1"],
    ]
    done = execute("-c", RUN_AND_LIST_IMPORTS, json.dumps([heavy, *commands]))
    assert [*json.loads(done.stdout).values()] == [[0, []]] * len(commands)


def test_an_unknown_command_is_wrong_usage(cli: Cli) -> None:
    assert cli.usage("frobnicate") == "No such command 'frobnicate'."


@pytest.mark.parametrize("command", [name for name, rest in COMMANDS.items() if "] INDEX" in rest])
def test_a_command_without_its_index_is_wrong_usage(cli: Cli, command: str) -> None:
    assert cli.usage(command) == "Missing argument 'INDEX'."


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["info", "i", "-Z"], "No such option '-Z'."),
        (["get", "i"], "Missing argument 'ID...'."),
        (["delete", "i"], "give at least one ID, --ids FILE or --where CONDITION"),
        (["info", "i", "j"], "Got unexpected extra argument (j)"),
        (["index", "i"], "give at least one SOURCE, or - for standard input"),
        (
            ["index", "i", "x.txt", "--rejects", "r.jsonl"],
            "--rejects requires --on-error skip",
        ),
        (["classify", "i"], "give a TEXT or --input FILE"),
        (["search", "i", "x", "-k", "x"], "Invalid value for '-k': 'x' is not a valid integer."),
        (
            ["delete", "i", "x", "--lock-timeout", "-1"],
            "Invalid value for '--lock-timeout': -1.0 is not in the range x>=0.",
        ),
        (
            ["compact", "i", "--lock-timeout", "nan"],
            "Invalid value for '--lock-timeout': nan is not a number of seconds",
        ),
        (
            ["evaluate", "i", "-k", "1,x"],
            "Invalid value for '-k': '1,x' is not a number, nor numbers separated by commas",
        ),
        (
            ["evaluate", "i", "--min-per-label", "0"],
            "Invalid value for '--min-per-label': 0 is not in the range x>=1.",
        ),
        (
            ["dedup", "i", "--keep", "best"],
            "Invalid value for '--keep': 'best' is not one of 'first', 'last', 'longest'.",
        ),
        (
            ["classify", "i", "x", "--fuse", "rrf"],
            "Invalid value for '--fuse': 'rrf' is not one of 'mean', 'concat'.",
        ),
        (
            ["index", "i", "x.txt", "--pooling", "sum"],
            "Invalid value for '--pooling': 'sum' is not one of 'mean', 'cls', 'max', 'mask'.",
        ),
    ],
)
def test_wrong_usage_says_what_is_wrong(cli: Cli, words: list[str], reason: str) -> None:
    assert cli.usage(*words) == reason


def test_python_m_layerdex_is_the_command(execute: Execute) -> None:
    done = execute("-m", "layerdex", "frobnicate")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "Error: No such command 'frobnicate'."
