"""The examples of docs/formats.md: each file becomes the documents shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from layerdex.indexer.readers import read_source
from layerdex.indexer.readers.formats import SUFFIXES
from layerdex.records import UNSET, SourceDocument

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
_BLOCK = r"```{}\n((?:[^`].*\n)+)```\n"
_EXAMPLE = re.compile(
    _BLOCK.format(r"(?P<kind>csv|tsv|txt|jsonl) (?P<name>\S+)")
    + r"\n"
    + _BLOCK.format("json")
    + rf"(?:\n{_BLOCK.format('text')})?"
)
EXAMPLES = {found["name"]: found for found in _EXAMPLE.finditer(PAGE.read_text("utf-8"))}


def as_row(document: SourceDocument) -> dict[str, object]:
    row: dict[str, object] = {"text": document.text}
    if document.id is not None:
        row["id"] = document.id
    if document.label is not UNSET:
        row["label"] = document.label
    return row | ({"metadata": document.metadata} if document.metadata else {})


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_file_becomes_the_documents_shown(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    content, rows, said = EXAMPLES[name].group(3, 4, 5)
    Path(name).write_text(content, "utf-8")
    readings = list(read_source(name))
    assert [as_row(one) for one in readings if isinstance(one, SourceDocument)] == [
        json.loads(line) for line in rows.splitlines()
    ]
    assert len(readings) == len(rows.splitlines())
    assert caplog.messages == (said or "").splitlines()


def test_every_file_of_the_page_is_tried() -> None:
    assert len(EXAMPLES) == len(
        re.findall(r"^```[a-z]+ \S+$", PAGE.read_text("utf-8"), re.MULTILINE)
    )
    assert len(EXAMPLES) >= 5


def test_every_suffix_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    for suffix, format_ in SUFFIXES.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{format_}` |"))
        assert f"`{suffix}`" in line
