"""A template for queries that is not the documents'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import OptionError
from layerdex.storage.store import Store
from tests.cli.corpus import DOCUMENTS
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer, similarities
from tests.encoders import WordEncoder
from tests.hits import similarities_of
from tests.results import first

PASSAGE, QUERY = "passage: {text}", "query: {text}"
TEXT = "the bank card"


@pytest.fixture
def made(cli: Cli, source: Path, tmp_path: Path) -> Path:
    path = tmp_path / "templated"
    cli.ok("index", path, source, "--template", PASSAGE, "--query-template", QUERY)
    return path


def expected(template: str) -> list[tuple[str, float]]:
    """Return the five nearest documents to the text in a template."""
    texts = [PASSAGE.replace("{text}", one["text"]) for one in DOCUMENTS]
    found = similarities([template.replace("{text}", TEXT)], texts, 3)[0]
    order = np.argsort(-np.round(found, 5), kind="stable")[:5]
    return [(DOCUMENTS[i]["id"], round(float(found[i]), 4)) for i in order]


def hits(found: list[Any]) -> list[tuple[str, float]]:
    return [(one["id"], round(one["similarity"], 4)) for one in found]


def test_a_search_puts_the_queries_template_around_its_text(cli: Cli, made: Path) -> None:
    assert expected(QUERY) != expected(PASSAGE)
    assert hits(cli.json("search", made, TEXT, "-k", "5")) == expected(QUERY)
    given = cli.json("search", made, TEXT, "-k", "5", "--query-template", PASSAGE)
    assert hits(given) == expected(PASSAGE)
    found = first(Index.open(made).search(TEXT, k=5, query_template="so {text}"))
    near = [round(one, 4) for one in similarities_of(found)]
    assert list(zip([one.id for one in found], near, strict=True)) == expected("so {text}")


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (("--template", "{title} {text}"), ["{title}"]),
        (("--query-template", "{task}: {q.kind} {text} {task}"), ["{task}, {q.kind}"]),
        (("--template", "{a} {text}", "--query-template", "{b} {text}"), ["{a}", "{b}"]),
        (("--template", '{"a b": "{text}"} {}'), []),
    ],
)
def test_a_field_that_is_not_replaced_is_said_when_the_index_is_made(
    cli: Cli,
    source: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    fields: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "index"
    cli.ok("index", path, source, *options)
    assert caplog.messages == [
        f"the template has {one}, which stays as it is: only {{text}} and {{mask}} are replaced"
        for one in fields
    ]
    caplog.clear()
    cli.ok("index", path, source, *options)
    cli.ok("search", path, TEXT)
    assert caplog.messages == []


def test_a_template_that_is_asked_again_is_made_once(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, asked = Index.open(made), []
    make = WordTransformer.with_template

    def counted(encoder: WordTransformer, template: str) -> Any:
        asked.append(template)
        return make(encoder, template)

    monkeypatch.setattr(WordTransformer, "with_template", counted)
    results = [first(index.search(TEXT, k=5)) for _ in range(3)]
    assert asked == [QUERY]
    assert results[0] == results[2]
    other = first(index.search(TEXT, k=5, query_template="so {text}"))
    assert asked == [QUERY, "so {text}"]
    assert other != results[0]
    assert first(index.search(TEXT, k=5)) == results[0]


def test_documents_and_texts_to_classify_have_the_documents_template(
    cli: Cli, made: Path, tmp_path: Path, source: Path
) -> None:
    plain = tmp_path / "plain"
    cli.ok("index", plain, source, "--template", PASSAGE)
    for words in (["classify", TEXT, "-k", "3"], ["search", "--like", "card-1"]):
        command, *rest = words
        assert cli.json(command, made, *rest) == cli.json(command, plain, *rest)
    alike = ("fingerprint", "template")
    of_made, of_plain = cli.json("info", made), cli.json("info", plain)
    assert [of_made[name] for name in alike] == [of_plain[name] for name in alike]
    assert (of_made["query_template"], of_plain["query_template"]) == (QUERY, None)
    assert QUERY in cli.data("info", made)


def test_the_template_stays_with_the_index(cli: Cli, made: Path, source: Path) -> None:
    cli.ok("index", made, source)
    cli.ok("index", made, source, "--query-template", QUERY)
    message = cli.error("index", made, source, "--query-template", "q: {text}")
    assert message.startswith(f"this index was made with query template '{QUERY}', not")
    cli.ok("backup", made, made.parent / "copy")
    assert Store(made.parent / "copy").query_template == QUERY


def test_bad_templates_for_queries_are_errors(cli: Cli, path: Path, tmp_path: Path) -> None:
    message = cli.error("search", path, TEXT, "--query-template", "no place")
    assert "exactly once" in message
    encoder = WordTransformer()
    with pytest.raises(OptionError, match="exactly once"):
        Index.create(tmp_path / "bad", model=encoder, query_template="no place")
    assert not (tmp_path / "bad").exists()
    with pytest.raises(OptionError, match="a template is a string"):
        first(Index.open(path).search(TEXT, query_template=3))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="has no with_template"):
        Index.create(tmp_path / "bad", model=WordEncoder(), query_template=QUERY)
    reason = cli.usage("search", path, "--like", "card-1", "--query-template", QUERY)
    assert {"--query-template", "QUERY", "--input"} <= set(reason.split())
