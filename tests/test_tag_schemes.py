"""Tags of words and the spans that they mark, against conlleval and seqeval."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from layerdex.tag_schemes import (
    TagError,
    TaggedSpan,
    TagScheme,
    read_spans,
    read_strict_spans,
    recognize_scheme,
    write_tags,
)

TAGGED: dict[TagScheme, list[str]] = {
    TagScheme.IO: ["I-A", "I-A", "O", "I-B"],
    TagScheme.IOB1: ["I-A", "I-A", "B-A", "O", "I-B"],
    TagScheme.IOB2: ["B-A", "I-A", "B-A", "O", "B-B"],
    TagScheme.BIOES: ["B-A", "E-A", "S-A", "O", "S-B"],
    TagScheme.BILOU: ["B-A", "L-A", "U-A", "O", "U-B"],
}


@pytest.mark.parametrize("scheme", TagScheme)
def test_spans_become_tags_and_these_become_spans(scheme: TagScheme) -> None:
    rng = random.Random(0)
    for _ in range(300):
        n_words = rng.randrange(12)
        spans, at = [], 0
        while at < n_words:
            length = rng.choice([0, 1, 1, 2, 3])
            stop = min(at + length, n_words)
            if length:
                spans.append(TaggedSpan(at, stop, rng.choice("AB")))
            # IO cannot tell neighbors apart.
            at = stop + (1 if scheme is TagScheme.IO or not length else 0)
        tags = write_tags(spans, n_words, scheme)
        assert len(tags) == n_words
        assert [*read_spans(tags, scheme)] == spans
        assert [*read_strict_spans(tags, scheme)] == spans


@pytest.mark.parametrize("scheme", TagScheme)
def test_schemes_are_recognized(scheme: TagScheme) -> None:
    assert recognize_scheme([["O"], TAGGED[scheme], []]) is scheme


def test_types_without_letters_are_io() -> None:
    tags = ["PER", "PER", "O", "B", "x-y", "I"]
    assert recognize_scheme([tags]) is TagScheme.IO
    spans = [TaggedSpan(0, 2, "PER"), *(TaggedSpan(i, i + 1, tags[i]) for i in (3, 4, 5))]
    assert [*read_spans(tags, TagScheme.IO)] == spans


def test_no_spans_at_all_are_io() -> None:
    assert recognize_scheme([["O", "O"], []]) is TagScheme.IO


def test_wrong_beginnings_are_read_as_conlleval_reads_them() -> None:
    tags = ["B-A", "O", "I-A", "I-B"]
    assert recognize_scheme([tags]) is TagScheme.IOB2
    assert len([*read_spans(tags, TagScheme.IOB2)]) == 3
    assert [*read_strict_spans(tags, TagScheme.IOB2)] == [TaggedSpan(0, 1, "A")]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([["S-A"], ["U-A"]], "BIOES, others those of BILOU"),
        ([["B-A"], ["A"]], "a type alone"),
    ],
)
def test_mixed_schemes_are_an_error(texts: Sequence[Sequence[str]], message: str) -> None:
    with pytest.raises(TagError, match=message):
        recognize_scheme(texts)


def test_what_cannot_be_tagged_is_an_error() -> None:
    overlapping = [TaggedSpan(0, 2, "A"), TaggedSpan(1, 3, "B")]
    with pytest.raises(TagError, match="overlap"):
        write_tags(overlapping, 3, TagScheme.IOB2)
    for beyond in (TaggedSpan(2, 5, "A"), TaggedSpan(1, 1, "A")):
        with pytest.raises(TagError, match="of 3"):
            write_tags([beyond], 3, TagScheme.BIOES)
    with pytest.raises(TagError, match="neighboring spans of 'A'"):
        write_tags([TaggedSpan(0, 1, "A"), TaggedSpan(1, 2, "A")], 2, TagScheme.IO)
    assert write_tags([TaggedSpan(0, 1, "A"), TaggedSpan(1, 2, "B")], 2, TagScheme.IO) == [
        "I-A",
        "I-B",
    ]


def conlleval_spans(tags: Sequence[str]) -> Iterator[TaggedSpan]:
    """Read spans as conlleval.pl does: its two tables of when a chunk ends and starts."""
    first, before, of_before = 0, "O", ""
    for at, tag in enumerate([*tags, "O"]):
        letter, _, kind = tag.partition("-")
        ends = before + letter in ("BB", "BO", "IB", "IO", "BS", "IS") or before in ("E", "S")
        ends |= before != "O" and of_before != kind
        starts = letter in ("B", "S") or before + letter in ("EE", "EI", "OE", "OI", "SI", "SE")
        starts |= letter != "O" and of_before != kind
        if before != "O" and ends:
            yield TaggedSpan(first, at, of_before)
        if starts:
            first = at
        before, of_before = letter, kind


@pytest.mark.parametrize(
    ("scheme", "letters"),
    [(TagScheme.IOB2, "BI"), (TagScheme.IOB1, "BI"), (TagScheme.BIOES, "BIES")],
)
def test_a_thousand_random_sequences_are_read_as_conlleval_reads_them(
    scheme: TagScheme, letters: str
) -> None:
    rng = random.Random(1)
    choices = ["O", *(f"{letter}-{kind}" for letter in letters for kind in "AB")]
    for _ in range(1_000):
        tags = rng.choices(choices, k=rng.randrange(12))
        assert [*read_spans(tags, scheme)] == [*conlleval_spans(tags)], tags


@pytest.mark.parametrize(
    ("scheme", "letters"),
    [(TagScheme.IOB2, "BI"), (TagScheme.BIOES, "BIES"), (TagScheme.BILOU, "BILU")],
)
def test_a_thousand_random_sequences_are_read_as_seqeval_reads_them_strictly(
    scheme: TagScheme, letters: str
) -> None:
    seqeval = pytest.importorskip("seqeval.scheme")
    of_seqeval = getattr(seqeval, {"BIOES": "IOBES"}.get(scheme, str(scheme)))
    rng = random.Random(2)
    choices = ["O", *(f"{letter}-{kind}" for letter in letters for kind in "AB")]
    for _ in range(1_000):
        tags = rng.choices(choices, k=1 + rng.randrange(12))
        [entities] = seqeval.Entities([tags], of_seqeval).entities
        expected = [TaggedSpan(one.start, one.end, one.tag) for one in entities]
        assert [*read_strict_spans(tags, scheme)] == expected, tags
