from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from layerdex.choices import Pooling
from layerdex.errors import OptionError
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.text.templates import Template
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import cosines, load_plain, plain_vectors, unit, vectors_of_ids
from tests.tiny_models import DEPTH, N_POSITIONS, sentence

LAYERS = range(DEPTH + 1)
STYLES = ["bert", "roberta", "xlm-roberta", "modernbert"]


@functools.cache
def load(folder: Path, template: str, pooling: Pooling = Pooling.MEAN) -> TransformerEncoder:
    return loaded.load(folder, template=template, pooling=pooling)


def tokens_of(encoder: TransformerEncoder, texts: list[str]) -> list[list[int]]:
    return encoder._tokenizer.tokenize(texts).ids


def n_tokens_after(tokenizer: Any, template: str) -> int:
    """Count the tokens after the text, the closing one included: those no text changes."""
    one, other = (tokenizer(template.replace("{text}", t))["input_ids"] for t in ("cat", "river"))
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


@pytest.mark.parametrize(
    "template", ["{text}", "A question: {text}", "{text}.", "{} {x} {text} {{y}} {0}", "{ {text} }"]
)
@pytest.mark.parametrize(
    "text", ["a cat", "{text}", "{mask} and {text}", "{}{0}{{x}}", "100 % %s", r"\1 \g<0>", ""]
)
def test_the_text_stands_in_its_place_whatever_its_braces(template: str, text: str) -> None:
    before, after = template.split("{text}")

    assert Template.parse(template, mask_token=None).render(text) == before + text + after


@pytest.mark.parametrize("template", ["", "a question", "{text} {text}", "{ text }", "{TEXT}"])
def test_the_text_must_stand_in_a_template_once(template: str) -> None:
    with pytest.raises(OptionError, match="exactly once"):
        Template.parse(template, mask_token="[MASK]")


def test_a_mask_is_the_tokenizers() -> None:
    template = "{text} means {mask}."

    assert Template.parse(template, mask_token="<mask>").render("x") == "x means <mask>."


def test_a_mask_without_a_mask_token_is_refused() -> None:
    with pytest.raises(OptionError, match="no mask token"):
        Template.parse("{text} means {mask}.", mask_token=None)


@pytest.mark.parametrize("text", ["the river bank", "{text} {mask} {}"])
@pytest.mark.parametrize("family", STYLES)
def test_vectors_are_those_of_the_rendered_text(
    family: str, text: str, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    expected = plain_vectors(folder, [f"A question: {text} ?"], max_length=N_POSITIONS)

    found = load(folder, "A question: {text} ?").encode([text], LAYERS).vectors

    assert cosines(found, expected).min() > 1 - 1e-6


@pytest.mark.parametrize("template", ["{text} good or bad ?", "the {text}, who ?", "{text}."])
@pytest.mark.parametrize("family", STYLES)
def test_the_text_is_cut_and_never_the_template(
    family: str, template: str, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = load(folder, template)
    words = sentence(80, seed=5).split()

    encoded = encoder.encode([" ".join(words)], [-1])
    (found,) = tokens_of(encoder, [" ".join(words)])

    # The template around some beginning of the text, and one no shorter than whole words give.
    before, after = template.split("{text}")
    text = " ".join(words)
    beginnings = tokenizer([before + text[:n] + after for n in range(len(text))])["input_ids"]
    whole_words = tokenizer([before + " ".join(words[:n]) + after for n in range(80)])["input_ids"]
    longest = max(len(ids) for ids in whole_words if len(ids) <= N_POSITIONS)
    n_after = n_tokens_after(tokenizer, template)
    assert n_after >= 2
    assert encoded.truncated.all()
    assert found in beginnings
    assert found[-n_after:] == whole_words[1][-n_after:]
    assert longest <= len(found) <= N_POSITIONS


@pytest.mark.parametrize("n_words", [3, 400, 20_000])
@pytest.mark.parametrize("family", STYLES)
def test_only_texts_that_do_not_fit_the_template_count_as_truncated(
    family: str, n_words: int, tiny_model: TinyModel
) -> None:
    encoder = load(tiny_model(family), "A question: {text} ?")

    encoded = encoder.encode([" ".join(["battery"] * n_words)], [-1])

    assert encoded.truncated.tolist() == [n_words > 3]
    assert (encoded.n_tokens[0] == N_POSITIONS) == (n_words > 3)


@pytest.mark.parametrize(
    "text", ["x" * 4_000, "a" * 90 + " cat", "中" * 300, "😀" * 300, "a?" * 90]
)
@pytest.mark.parametrize("family", STYLES)
def test_a_suffix_survives_texts_without_words(
    family: str, text: str, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    encoder = load(folder, "{text} means <good>")
    ending = AutoTokenizer.from_pretrained(folder)(" means <good>")["input_ids"]

    (found,) = tokens_of(encoder, [text])

    assert len(found) <= N_POSITIONS
    assert found[-5:] == ending[-5:]


@pytest.mark.parametrize("template", ["{text}" + " stone" * 38, "stone " * 100 + "{text}"])
def test_a_template_that_leaves_no_room_is_refused(template: str, tiny_model: TinyModel) -> None:
    with pytest.raises(OptionError, match=f"template alone takes .* of at most {N_POSITIONS}"):
        load(tiny_model("bert"), template)


def test_a_template_that_leaves_room_for_one_token_is_taken(tiny_model: TinyModel) -> None:
    encoder = load(tiny_model("bert"), "{text}" + " stone" * 37)

    whole, cut = encoder.encode(["cat", "cat dog"], [-1]).vectors[0]

    np.testing.assert_array_equal(whole, cut)
    assert encoder.encode(["cat", "cat dog"], [-1]).truncated.tolist() == [False, True]


@pytest.mark.parametrize(
    ("template", "which"),
    [("{text} means {mask}.", -1), ("{mask} : {text}", 0), ("a {mask} {text} ?", 0)],
)
@pytest.mark.parametrize(
    "text",
    [
        "the river bank",
        "",
        "MASK what",
        "what MASK",
        "MASK MASK a MASK",
        " ".join(["battery"] * 200),
        "MASK " * 200,
    ],
)
@pytest.mark.parametrize("family", STYLES)
def test_mask_pooling_takes_the_templates_mask_and_not_the_texts(
    family: str, text: str, template: str, which: int, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = text.replace("MASK", tokenizer.mask_token)
    encoder = load(folder, template, Pooling.MASK)
    (ids,) = tokens_of(encoder, [text])
    position = [i for i, one in enumerate(ids) if one == tokenizer.mask_token_id][which]
    expected = vectors_of_ids(load_plain(folder), [ids], lambda states: states[position])

    found = encoder.encode([text, "a much longer text " * 5, "x"], LAYERS).vectors[:, :1]

    assert cosines(found, expected).min() > 1 - 1e-6
    # Whatever the text, the template's own tokens are all there.
    plain = template.replace("{mask}", tokenizer.mask_token)
    rendered = tokenizer(plain.replace("{text}", text))["input_ids"]
    n_after = n_tokens_after(tokenizer, plain)
    assert ids[-n_after:] == rendered[-n_after:]
    n_before = len(tokenizer(plain.split("{text}")[0].rstrip())["input_ids"]) - 1
    assert ids[:n_before] == rendered[:n_before]


@pytest.mark.parametrize("template", ["{text}", "{text} means what", "{mask} {text} {mask}"])
def test_mask_pooling_needs_exactly_one_mask_in_the_template(
    template: str, tiny_model: TinyModel
) -> None:
    with pytest.raises(OptionError, match=r"one \{mask\}"):
        load(tiny_model("bert"), template, Pooling.MASK)


def test_the_mask_position_matters(tiny_model: TinyModel) -> None:
    # Otherwise the tests above could not tell one mask from another.
    folder = tiny_model("bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("[MASK] the cat means [MASK].")["input_ids"]
    model = load_plain(folder)

    first = vectors_of_ids(model, [ids], lambda states: states[1])
    last = vectors_of_ids(model, [ids], lambda states: states[len(ids) - 3])

    assert ids[1] == ids[len(ids) - 3] == tokenizer.mask_token_id
    assert (unit(first) * unit(last)).sum(axis=-1).max() < 0.999


def test_another_template_shares_the_model_and_gives_the_vectors_of_its_own(
    bert: Path,
) -> None:
    encoder, query = load(bert, "{text}"), "the probe of {text}"
    other, alone = encoder.with_template(query), load(bert, query)
    texts = ["the cat sat", "battery died"]
    before = encoder.encode(texts, [0, 2]).vectors.tobytes()
    assert other.engine is encoder.engine
    assert other.settings == alone.settings
    found = other.encode(texts, [0, 2]).vectors
    assert found.tobytes() == alone.encode(texts, [0, 2]).vectors.tobytes()
    assert encoder.encode(texts, [0, 2]).vectors.tobytes() == before != found.tobytes()
    with pytest.raises(OptionError, match="exactly once"):
        encoder.with_template("no place")


def test_one_model_works_for_one_of_its_encoders_at_a_time(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()  # so that every call is due
    monkeypatch.setattr("layerdex.indexer.progress.monotonic", lambda: next(clock))
    encoder = load(bert, "{text}")
    other = encoder.with_template("the {text}")

    def query(_: int) -> None:
        other.encode(["a cat"], [0])

    with pytest.raises(OptionError, match="on_progress must not call the encoder"):
        encoder.encode(["the cat sat"], [0], on_progress=query)


def test_pooling_of_the_mask_needs_one_in_a_query_too(bert: Path) -> None:
    encoder = load(bert, "{text} is {mask}", Pooling.MASK)
    assert encoder.with_template("what {text} {mask}").encode(["it"], [1]).vectors.any()
    with pytest.raises(OptionError, match="needs a template with one"):
        encoder.with_template("what {text}")
