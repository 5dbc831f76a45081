from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from layerdex.errors import ModelError, OptionError
from layerdex.indexer.models.prompts import Prompts, read_prompts
from tests.indexer.loaded import load
from tests.sentence_models import to_sentence_model

E5 = {"query": "query: ", "passage": "passage: "}


def read(folder: Path, config: Any) -> Prompts:
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    return read_prompts(folder)


@pytest.mark.parametrize(
    ("config", "default", "others"),
    [
        ({}, "", {}),
        ({"prompts": {}, "default_prompt_name": None}, "", {}),
        ({"prompts": None}, "", {}),
        ({"prompts": {"query": "", "document": None}}, "", {}),
        ({"prompts": E5}, "", E5),
        ({"prompts": E5, "default_prompt_name": "passage"}, "passage: ", {"query": "query: "}),
        # sentence-transformers gives every model these two.
        ({"default_prompt_name": "document"}, "", {}),
        ({"prompts": E5, "default_prompt_name": "document"}, "", E5),
    ],
)
def test_the_default_prompt_and_the_others_are_read(
    config: Any, default: str, others: dict[str, str], tmp_path: Path
) -> None:
    found = read(tmp_path, config)

    assert found == Prompts(default, others, default_name=config.get("default_prompt_name") or "")


def test_a_folder_without_the_file_has_no_prompts(tmp_path: Path) -> None:
    assert read_prompts(tmp_path) == Prompts()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"prompts": ["query: "]}, "not an object of texts"),
        ({"prompts": {"query": 3}}, "not an object of texts"),
        ({"prompts": E5, "default_prompt_name": "title"}, "'title' is none of query, passage"),
        ({"prompts": E5, "default_prompt_name": ["query"]}, "is none of query, passage"),
        ([], "does not hold a JSON object"),
    ],
)
def test_misshapen_prompts_are_a_model_error(config: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        read(tmp_path, config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"similarity_fn_name": None, "truncate_dim": None}, None),
        ({"similarity_fn_name": "cosine"}, None),
        ({"similarity_fn_name": "dot"}, "compared by 'dot'; Layerdex compares by cosine"),
        ({"truncate_dim": 16}, "to 16 dimensions; Layerdex stores all of them"),
        ({"model_type": "SentenceTransformer"}, None),
        ({"model_type": "SparseEncoder", "prompts": E5}, "it is a SparseEncoder"),
    ],
)
def test_what_is_not_followed_is_noted(config: Any, said: str | None, tmp_path: Path) -> None:
    found = read(tmp_path, config)

    assert len(found.notes) == (said is not None)
    assert all(said in note for note in found.notes if said)
    assert not found.others


def test_a_default_prompt_is_the_template_that_an_option_replaces(bert: Path) -> None:
    to_sentence_model(bert, config={"prompts": E5, "default_prompt_name": "passage"})

    assert load(bert).settings.template == "passage: {text}"
    assert load(bert, template="{text}").settings.template == "{text}"


def test_prompts_that_are_not_used_are_named_with_the_options_for_them(bert: Path) -> None:
    to_sentence_model(bert, config={"prompts": E5})

    (note,) = load(bert).notes()

    assert repr(str(bert)) in note
    for part in ("query 'query: '", "passage 'passage: '", "--template and --query-template"):
        assert part in note


@pytest.mark.parametrize("name", ["query", "search_query", "Retrieval-query"])
def test_a_prompt_of_queries_is_named_until_there_is_a_query_template(
    name: str, bert: Path
) -> None:
    to_sentence_model(bert, config={"prompts": {name: "query: ", "passage": "passage: "}})

    (of_queries,) = load(bert, template="passage: {text}").notes()
    (of_documents,) = load(bert).notes(query_template="query: {text}")

    assert f"({name} 'query: '): give them with --query-template, followed by" in of_queries
    assert "(passage 'passage: '): give them with --template, followed by" in of_documents
    chosen = load(bert, template="passage: {text}")
    assert chosen.notes(query_template="query: {text}") == []


def test_a_default_prompt_is_named_where_it_is_the_template(bert: Path) -> None:
    to_sentence_model(bert, config={"prompts": E5, "default_prompt_name": "query"})

    default, passage = load(bert).notes()

    assert "its default prompt 'query' is put before every document: 'query: '" in default
    assert "(passage 'passage: '): give them with --template, followed by" in passage
    assert load(bert, template="passage: {text}").notes() == []


@pytest.mark.parametrize("prompt", ["about {text}: ", "{mask}: "])
def test_a_default_prompt_with_a_placeholder_is_not_misread(prompt: str, bert: Path) -> None:
    to_sentence_model(bert, config={"prompts": {"a": prompt}, "default_prompt_name": "a"})

    with pytest.raises(OptionError, match="give a --template"):
        load(bert)
    assert load(bert, template="x {text}").settings.template == "x {text}"
