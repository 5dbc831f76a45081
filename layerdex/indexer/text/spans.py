"""Spans of characters: which tokens they have, and in which part of a long text.

A word, a sentence or a mention within a text is such a span. Its vector is made of the states that
its tokens have in their text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.indexer.text.chunks import split
from layerdex.indexer.text.tokenizer import Prefix, TextTokenizer, Tokens, TokenSpans

CharacterSpan = tuple[int, int]
"""The first character of a span, and the one behind its last; never empty."""


@dataclass(frozen=True, slots=True)
class LocatedSpans:
    """The passages in which spans have tokens: whole texts, or parts of those that do not fit.

    Spans are numbered through all texts. ``numbers`` (n_located,) are those of ``tokens.spans``;
    ``cut`` (n_spans,) tells which others are whole in no passage, and the rest have no token.
    ``n_tokens`` (n_texts,) int32 are the tokens of each text as far as it was read, and
    ``truncated`` (n_texts,) tells whose end was not.
    """

    tokens: Tokens
    numbers: NDArray[np.int64]
    cut: NDArray[np.bool_]
    n_tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Passage:
    """The characters ``start`` to ``end`` of a text; ``ends_text`` says whether it ends there.

    ``n_tokens`` of its tokens are in no earlier passage.
    """

    prefix: Prefix
    start: int
    end: int
    ends_text: bool
    n_tokens: int

    def margin(self, span: CharacterSpan) -> float:
        """Return the distance of a span to the nearest edge that is none of the text.

        It is negative if the span is not whole in the passage.
        """
        before = np.inf if self.start == 0 else span[0] - self.start
        behind = np.inf if self.ends_text else self.end - span[1]
        return min(before, behind)


def locate_spans(
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    spans: Sequence[Sequence[CharacterSpan]],
    *,
    in_chunks: bool,
) -> LocatedSpans:
    """Find the tokens of each text's spans.

    A token belongs to a span if they share a character. What does not fit is cut, or, with
    ``in_chunks``, is read in overlapping chunks: then a span is taken from the one in which it is
    whole and farthest from an edge.
    """
    ids: list[list[int]] = []
    located: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.int64]] = []
    cut = np.zeros(sum(map(len, spans)), dtype=np.bool_)
    n_tokens = np.zeros(len(texts), dtype=np.int32)
    truncated = np.zeros(len(texts), dtype=np.bool_)
    first = 0
    prefixes = tokenizer.find_prefixes(texts)
    for i, (text, prefix, of_text) in enumerate(zip(texts, prefixes, spans, strict=True)):
        passages = [*_passages(tokenizer, text, prefix, in_chunks=in_chunks)]
        n_tokens[i] = sum(passage.n_tokens for passage in passages)
        truncated[i] = not passages[-1].ends_text
        margins = np.array([[passage.margin(span) for span in of_text] for passage in passages])
        chosen = margins.argmax(axis=0)
        for at, passage in enumerate(passages):
            mine = np.flatnonzero(chosen == at)
            cut[first + mine] = margins[at, mine] < 0
            mine = mine[margins[at, mine] >= 0]
            tokens = _tokens_of(passage, np.array(of_text, dtype=np.int64).reshape(-1, 2)[mine])
            has_some = tokens[:, 0] < tokens[:, 1]
            if has_some.any():
                ids.append(passage.prefix.ids)
                located.append(tokens[has_some])
                numbers.append(first + mine[has_some])
        first += len(of_text)
    found = TokenSpans(
        np.concatenate([np.empty((0, 2), np.int64), *located]),
        np.cumsum([0, *map(len, located)]),
    )
    none = np.zeros(len(ids), dtype=np.bool_)
    return LocatedSpans(
        Tokens(ids, none, spans=found),
        np.concatenate([np.empty(0, np.int64), *numbers]),
        cut,
        n_tokens,
        truncated,
    )


def _passages(
    tokenizer: TextTokenizer, text: str, prefix: Prefix, *, in_chunks: bool
) -> Iterator[_Passage]:
    is_whole = prefix.end >= len(text) or text[prefix.end :].isspace()
    if is_whole or not in_chunks:
        # Not the end of what was kept: behind its last token nothing was read.
        end = len(text) if is_whole else max(prefix.token_ends, default=0)
        yield _Passage(prefix, 0, end, is_whole, len(prefix.ids))
        return
    for chunk in split(tokenizer, text):
        n_tokens = chunk.n_new if chunk.start else len(chunk.ids)
        ends_text = chunk.end >= len(text)
        yield _Passage(chunk.prefix, chunk.start, chunk.end, ends_text, n_tokens)


def _tokens_of(passage: _Passage, spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the tokens of spans of a text, (n, 2): the first, and the one behind the last."""
    prefix = passage.prefix
    starts, stops = (spans - passage.start).T
    firsts = np.searchsorted(np.maximum.accumulate(prefix.token_ends), starts, side="right")
    ends = np.searchsorted(prefix.token_starts, stops, side="left")
    positions = np.array([*prefix.positions, 0])
    has_some = firsts < ends
    tokens = np.zeros(spans.shape, dtype=np.int64)
    tokens[has_some, 0] = positions[firsts[has_some]]
    tokens[has_some, 1] = positions[ends[has_some] - 1] + 1
    return tokens
