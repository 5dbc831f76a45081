"""Tags of words that mark spans: IO, IOB1, IOB2, BIOES and BILOU.

A tag is ``O`` outside all spans, else a letter and the span's type, such as ``B-PER``; in IO the
type may stand alone, also where it is itself a letter: ``B`` alone is the type ``B``. In IOB2 each
span begins with B; in IOB1 only one that follows another of its type (Ramshaw and Marcus 1995;
Tjong Kim Sang and Veenstra 1999). In BIOES the last word has E, and a single one S; BILOU calls
these L and U (Ratinov and Roth 2009).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from layerdex.errors import LayerdexError

OUTSIDE = "O"

_LAST_AND_SINGLE = {"BIOES": ("E", "S"), "BILOU": ("L", "U")}
_LETTERS = "BIESLU"


class TagScheme(StrEnum):
    """How the tags of words mark spans."""

    IO = "IO"
    IOB1 = "IOB1"
    IOB2 = "IOB2"
    BIOES = "BIOES"
    BILOU = "BILOU"


class TagError(LayerdexError):
    """Tags that are of no scheme, or of several."""


class TaggedSpan(NamedTuple):
    """The words from ``first`` and before ``stop`` are a span of a ``type``."""

    first: int
    stop: int
    type: str


class _Tag(NamedTuple):
    """A letter, empty for a type alone, and a type, None outside of spans."""

    letter: str
    type: str | None


def recognize_scheme(texts: Iterable[Sequence[str]]) -> TagScheme:
    """Return the scheme of the tags of some texts, which is IO if there are no spans.

    Raises `TagError` for letters of both BIOES and BILOU, and for types with and without letters.
    Spans that begin with I where they should not are read as conlleval does, as IOB2.
    """
    letters: set[str] = set()
    is_iob1 = is_iob2 = True
    for tags in texts:
        before = _Tag("", None)
        for tag in map(_parse, tags):
            if tag.type is not None:
                letters.add(tag.letter)
                follows = before.type == tag.type
                is_iob1 &= tag.letter != "B" or follows
                is_iob2 &= tag.letter != "I" or follows
            before = tag
    if "" in letters and len(letters) > 1:
        raise TagError("some tags are a type alone, others have a letter such as B- before it")
    if letters & set("ES") and letters & set("LU"):
        raise TagError("some tags have the letters of BIOES, others those of BILOU")
    for scheme, own in _LAST_AND_SINGLE.items():
        if letters & set(own):
            return TagScheme(scheme)
    if "B" not in letters:
        return TagScheme.IO
    return TagScheme.IOB1 if is_iob1 and not is_iob2 else TagScheme.IOB2


def read_spans(tags: Sequence[str], scheme: TagScheme) -> Iterator[TaggedSpan]:
    """Yield the spans of a text's tags, in order, by the rules of conlleval.

    No span is lost: one that does not begin or end as its scheme has it, does so where the type
    changes or `OUTSIDE` is next to it.
    """
    first, before = 0, _Tag("", None)
    for at, tag in enumerate([*map(_parse, tags), _Tag("", None)]):
        begins = tag.letter in "BSU" and tag.letter != ""
        if scheme is TagScheme.IO:
            begins = False
        if before.type is not None and (
            begins or tag.type != before.type or before.letter in ("E", "S", "L", "U")
        ):
            yield TaggedSpan(first, at, before.type)
            first = at
        elif before.type is None:
            first = at
        before = tag


def read_strict_spans(tags: Sequence[str], scheme: TagScheme) -> Iterator[TaggedSpan]:
    """Yield only the spans that begin and end as their scheme has it, as seqeval's strict mode.

    IO and IOB1 have no tags that could be wrong: there they are those of `read_spans`.
    """
    if scheme in (TagScheme.IO, TagScheme.IOB1):
        yield from read_spans(tags, scheme)
        return
    last, single = _LAST_AND_SINGLE.get(scheme, ("", ""))
    parsed = [*map(_parse, tags), _Tag("", None)]
    first: int | None = None
    for at, tag in enumerate(parsed):
        if first is not None:
            kind = parsed[first].type
            if tag.type == kind and tag.letter == "I":
                continue
            if last and tag == _Tag(last, kind):
                yield TaggedSpan(first, at + 1, str(kind))
            elif not last:
                yield TaggedSpan(first, at, str(kind))
            first = None
        if tag.letter == "B":
            first = at
        elif single and tag.letter == single:
            yield TaggedSpan(at, at + 1, str(tag.type))


def write_tags(spans: Iterable[TaggedSpan], n_words: int, scheme: TagScheme) -> list[str]:
    """Return the tags of a text's words.

    Raises `TagError` for spans that overlap or lie beyond the words, and in IO for neighbors of one
    type, which would become one span.
    """
    tags = [OUTSIDE] * n_words
    before = TaggedSpan(0, 0, OUTSIDE)
    for span in sorted(spans):
        if not 0 <= span.first < span.stop <= n_words:
            raise TagError(f"a span of the words {span.first} to {span.stop} of {n_words}")
        if span.first < before.stop:
            raise TagError(f"the spans at the words {before.first} and {span.first} overlap")
        touches = span.first == before.stop and span.type == before.type
        if touches and scheme is TagScheme.IO:
            raise TagError(f"IO cannot tell the neighboring spans of {span.type!r} apart")
        letters = _letters(span.stop - span.first, scheme, touches=touches)
        tags[span.first : span.stop] = [f"{letter}-{span.type}" for letter in letters]
        before = span
    return tags


def _letters(n: int, scheme: TagScheme, *, touches: bool) -> str:
    if scheme is TagScheme.IO or (scheme is TagScheme.IOB1 and not touches):
        return "I" * n
    if scheme in _LAST_AND_SINGLE:
        last, single = _LAST_AND_SINGLE[scheme]
        return single if n == 1 else "B" + "I" * (n - 2) + last
    return "B" + "I" * (n - 1)


def _parse(tag: str) -> _Tag:
    if tag == OUTSIDE:
        return _Tag("", None)
    letter, dash, kind = tag.partition("-")
    if dash and kind and letter in _LETTERS and len(letter) == 1:
        return _Tag(letter, kind)
    return _Tag("", tag)
