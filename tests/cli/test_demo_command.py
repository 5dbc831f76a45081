"""``layerdex demo``: the whole tour, and every command line that it shows."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerdex.records import Scalar, SourceDocument
from tests.cli.conftest import ENCODER
from tests.cli.runner import Cli
from tests.cli.words import DeepWordTransformer

VERBS = ("parse", "read", "write", "open", "close", "walk", "wait", "remove", "return", "raise")
THINGS = {
    "json": ("a JSON string", "an object"),
    "shutil": ("a directory tree", "everything in it"),
    "threading": ("until a thread has finished", "a lock"),
}


def collect() -> Iterator[SourceDocument]:
    """Sixty docstrings of three modules, one of them twice."""
    for label, things in THINGS.items():
        for i, (thing, verb) in enumerate((t, v) for t in things for v in VERBS):
            name = "loads" if (label, i) == ("json", 0) else f"function_{i}"
            text = f"{verb} {things[0]}" if (label, i) == ("json", 10) else f"{verb} {thing}"
            metadata: dict[str, Scalar] = {"kind": "function", "line": i + 1, "file": f"{label}.py"}
            yield SourceDocument(text, id=f"{label}.{name}", label=label, metadata=metadata)


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder where the demo has run, and what it showed."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("layerdex.index.files.collect_docstrings", collect)
        patched.setattr(ENCODER, DeepWordTransformer)
        patched.setenv("COLUMNS", "80")
        patched.chdir(folder)
        return folder, Cli().data("demo")


@pytest.fixture
def shown(toured: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what the demo showed, in the folder where it ran."""
    folder, shown = toured
    monkeypatch.setattr("layerdex.index.files.collect_docstrings", collect)
    monkeypatch.setattr(ENCODER, DeepWordTransformer)
    monkeypatch.chdir(folder)
    for written in ("layers.png", "agreement.png", "who.jsonl"):  # by the commands of another test
        Path(written).unlink(missing_ok=True)
    return shown


def test_every_command_line_of_the_demo_works(cli: Cli, shown: str) -> None:
    commands = [line.removeprefix("$ ") for line in shown.splitlines() if line.startswith("$ ")]
    words = [shlex.split(command) for command in commands]
    assert {one[0] for one in words} == {"layerdex"}
    assert {one[1] for one in words} >= {
        "index",
        "search",
        "evaluate",
        "dedup",
        "info",
        "classify",
        "get",
    }
    for one in words:
        assert cli.ok(*one[1:]).stdout


def test_the_demo_shows_what_its_commands_show(cli: Cli, shown: str) -> None:
    commands = [line.split(maxsplit=2) for line in shown.splitlines() if line.startswith("$ ")]
    for _, _, command in commands:
        words = shlex.split(command)
        if words[0] in {"search", "evaluate", "dedup"} and not {"--like", "--json"} & set(words):
            for line in cli.ok(*words).stdout.splitlines():
                assert line.rstrip() in [one.rstrip() for one in shown.splitlines()]


def test_the_demo_leaves_an_index_of_every_docstring(cli: Cli, shown: str) -> None:
    assert "60 docstrings, 60 of them encoded at 7 layers in " in shown
    exported = cli.jsonl("export", "layerdex-demo/index")
    assert [one["id"] for one in exported] == [one.id for one in collect()]
    assert exported[0]["metadata"] == {"file": "json.py", "kind": "function", "line": 1}
    assert Path("layerdex-demo/layers.png").read_bytes().startswith(b"\x89PNG")
    assert max(len(line) for line in shown.splitlines() if line.startswith(" ")) <= 80


def test_a_second_demo_encodes_nothing_again(cli: Cli, shown: str, tmp_path: Path) -> None:
    again = tmp_path / "tour"
    shutil.copytree("layerdex-demo", again)
    assert "60 docstrings, 0 of them encoded at 7 layers in " in cli.data("demo", again)
