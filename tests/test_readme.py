"""What README and docs show is run, with an encoder without a model; figures are not compared."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from layerdex import Index
from layerdex.cli.main import main
from tests.cli.conftest import ENCODER
from tests.cli.corpus import write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import DeepWordTransformer

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FORMATS_JSON = ROOT / "docs" / "formats-json.md"
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
CONSOLE = "console"
# Written with capitals where a reader puts in a name of their own.
_PLACEHOLDER = "COMMAND"
_OTHER_PROGRAMS = {"--kills", "--sequences", "--soak", "--n-texts", "--try-packing"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def console_lines(page: Path) -> list[str]:
    """Return the commands that console blocks show, without prompts and output."""
    lines = "\n".join(blocks(page, CONSOLE)).replace("\\\n", "").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def inline_lines(page: Path) -> list[str]:
    """Return the commands between backticks in the text of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(line.split()) for line in re.findall(r"`(layerdex [^`]+)`", text)]


def layerdex_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield each page's name and the words of every layerdex command on it."""
    for page in PAGES:
        for line in (*console_lines(page), *inline_lines(page)):
            words = shlex.split(line, comments=True)
            if words[:1] == ["layerdex"] and words[1] not in (_PLACEHOLDER, "--help"):
                yield page.name, words[1:]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files and indexes that README names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(ENCODER, DeepWordTransformer)
    documents = [
        {
            "id": f"{module}.{i}",
            "text": f"{words} number {i % 20}",
            "label": module,
            "kind": ("function", "class")[i % 2],
            "line": i,
            "stars": i % 5,
        }
        for module, words in (
            ("threading", "wait until a thread has finished"),
            ("ast", "walk an abstract syntax tree"),
            ("json", "read a document from a file"),
        )
        for i in range(22)
    ]
    write_jsonl(tmp_path / "more.jsonl", documents)
    rows = [f"{i},great phone {i},{i % 5}" for i in range(9)]
    (tmp_path / "reviews.csv").write_text("\n".join(["id,body,stars", *rows]))
    (tmp_path / "today.csv").write_text("\n".join(["id,body,stars", *rows[1:]]))
    tickets = [
        f"{i:06};{1 + i % 28:02}.{1 + i % 12:02}.2026;{customer};the card does not work {i};{label}"
        for i, (customer, label) in enumerate(
            [("Müller", "card"), ('"Smith, Jones"', "cash"), ("Weiß", "card"), ("Groß", "cash")] * 6
        )
    ]
    head = "Ticket-Nr;Datum;Kunde;Betreff;Kategorie"
    files = {"tickets.csv": tickets, "tickets-october.csv": tickets[1:], "new.csv": tickets[:5]}
    for name, lines in files.items():
        text = "\n".join([head, *lines])
        encoding = "utf-8" if name == "new.csv" else "cp1252"
        (tmp_path / name).write_text(text, encoding=encoding)
    (tmp_path / "layerdex-demo").mkdir()
    write_jsonl(tmp_path / "layerdex-demo" / "docstrings.jsonl", documents)
    for name in ("layerdex-demo/index", "train"):
        Index.create(tmp_path / name, model=DeepWordTransformer()).add(documents)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_python_examples_run() -> None:
    namespace: dict[str, object] = {}
    for i, source in enumerate(blocks(README, "python")):
        exec(compile(source, f"README.md, Python block {i + 1}", "exec"), namespace)
    assert "index" in namespace


def test_the_python_examples_of_json_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ENCODER, DeepWordTransformer)
    namespace: dict[str, object] = {}
    sources = blocks(FORMATS_JSON, "python")
    assert len(sources) >= 4
    for i, source in enumerate(sources):
        exec(compile(source, f"{FORMATS_JSON.name}, Python block {i + 1}", "exec"), namespace)


def test_the_console_examples_run(folder: Path) -> None:
    cli = Cli()
    lines = [line for line in console_lines(README) if line.startswith("layerdex ")]
    lines += [line for line in inline_lines(README) if _PLACEHOLDER not in line]
    assert len(lines) >= 8
    for line in lines:
        result = cli(*shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert (folder / "kept.jsonl").stat().st_size > 0
    assert (folder / "who.jsonl").stat().st_size > 0
    assert (folder / "layers.png").read_bytes().startswith(b"\x89PNG")


def options_of(command: click.Command) -> set[str]:
    names = {"--help"}
    for parameter in command.params:
        names |= {*parameter.opts, *parameter.secondary_opts}
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            names |= options_of(inner)
    return names


def test_every_command_and_option_in_the_pages_exists() -> None:
    context = click.Context(main)
    n_options = 0
    for page, words in layerdex_commands():
        command = main.get_command(context, words[0])
        assert command is not None, f"{page}: there is no command {words[0]!r}"
        if isinstance(command, click.Group):
            command = command.commands[words[1]]
        options = [word for word in words[1:] if re.match(r"--?[a-z]", word)]
        n_options += len(options)
        unknown = set(options) - options_of(command)
        assert not unknown, f"{page}: {words[0]} has no option {unknown}"
    assert n_options > 50


def test_every_option_named_in_the_text_belongs_to_some_command() -> None:
    context = click.Context(main)
    known = options_of(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        known |= options_of(command)
    for page in PAGES:
        named = re.findall(r"(?<!-)`(--[a-z0-9-]+)", page.read_text())
        unknown = set(named) - known - _OTHER_PROGRAMS
        assert not unknown, f"{page.name}: no command has the option {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_to_files(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        name, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = (page.parent / name).resolve() if name else page
        assert linked.is_file(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_modules_and_extras_exist(page: Path) -> None:
    text = page.read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^\$ |`)make ([a-z]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no make target {target}"
    for module in re.findall(r"python -m ((?:benchmarks|scripts|tests)[\w.]*)", text):
        assert find_spec(module) is not None, f"no module {module}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"'\.\[([\w,]+)\]'", text):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_files_that_the_architecture_names_exist() -> None:
    """Files of future changes are marked as new; all others must exist."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    planned = set(re.findall(r"new `([\w/.]+)`", text))
    for name in set(re.findall(r"`([\w]+/[\w/]*\w\.py)`", text)) - planned:
        bases = (
            ROOT,
            ROOT / "layerdex",
            ROOT / "layerdex" / "indexer",
            ROOT / "layerdex" / "storage",
        )
        assert any((base / name).is_file() for base in bases), f"there is no file {name}"
