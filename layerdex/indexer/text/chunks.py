"""Long texts whole: overlapping chunks of a text, and the average of their vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.indexer.text.tokenizer import Beginning, TextTokenizer, Tokens

# Neighbouring chunks share an eighth of their tokens: a sentence cut by one is whole in the next.
_TOKENS_PER_SHARED = 8
# What is tokenised for a chunk ends between words, if none has half as many characters as this.
_MIN_LIKELY = 512
# A group of chunks is tokenised, encoded and forgotten: 19 MB of ids and, for 13 layers of 768,
# 41 MB of vectors, however long the texts are.
_GROUP_CHUNKS = 1_024
_GROUP_TOKENS = 1 << 19
# The weight of a first chunk that is only blank: it counts where nothing else does.
_NEGLIGIBLE = 2.0**-20


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text, from one character to another, as ids with template and special tokens.

    ``n_tokens`` of the text are in it, ``n_new`` of them in no chunk before. ``is_whole`` is
    false where not even its first character fits.
    """

    ids: list[int]
    start: int
    end: int
    n_tokens: int
    n_new: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Averages:
    """What became of n texts in chunks.

    ``vectors`` is (n_layers, n, width) float32, unit length; ``n_tokens`` (n,) int32 counts each
    token of a text once, and template and special tokens once; ``truncated`` (n,) bool: a single
    character took more tokens than fit.
    """

    vectors: NDArray[np.float32]
    n_tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]


def split(tokenizer: TextTokenizer, text: str) -> Iterator[Chunk]:
    """Yield the chunks of a text: each is what cutting would keep of the text from there on.

    So the first is what a cut text gives. Each begins within the last eighth of the tokens of
    the one before, at a word if one begins there, and together they hold the whole text. A chunk
    without a token of its own is left out, unless it is the first.
    """
    start = covered = 0
    n_likely = None
    while covered < len(text):
        # One character more than is looked at: where a cut begins must not look like the end.
        part = text[start : start + tokenizer.n_characters + 1]
        kept = tokenizer.begin(part, n_likely=n_likely)
        end = start + kept.end
        if end <= covered and start < covered:
            start = covered  # what is shared takes all the room: share nothing
            continue
        is_whole = end > covered
        end = max(end, covered + 1)
        n_new = sum(covered <= start + begin < end for begin in kept.begins)
        if n_new or not start:
            yield Chunk(kept.ids, start, end, len(kept.begins), n_new, is_whole)
        covered = end
        n_likely = min(max(_MIN_LIKELY, (end - start) * 3 // 2), tokenizer.n_characters)
        start = max(start + 1, min(start + _shared_from(kept), end))


def _shared_from(kept: Beginning) -> int:
    """Return the character at which the next chunk should begin."""
    n = len(kept.begins)
    shared = range(n - n // _TOKENS_PER_SHARED, n)
    if not shared:
        return kept.end
    return kept.begins[next((i for i in shared if kept.starts_word[i]), shared[0])]


def average_chunks(
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    firsts: NDArray[np.float32],
    encode: Callable[[Tokens, float, float], NDArray[np.float32]],
) -> Averages:
    """Average the unit vectors of each text's chunks, weighted by their tokens of the text.

    ``firsts`` (n_layers, n, width) float32 are the vectors of the texts' first chunks, and are
    overwritten; ``encode`` gives the unit vectors (n_layers, n_chunks, width) of further ones,
    and is told which shares of the texts' characters lie before and up to the end of these.
    """
    n_tokens = np.zeros(len(texts), dtype=np.int32)
    truncated = np.zeros(len(texts), dtype=np.bool_)

    def further() -> Iterator[tuple[int, Chunk]]:
        for i, text in enumerate(texts):
            for chunk in split(tokenizer, text):
                if not chunk.start:
                    n_tokens[i] = len(chunk.ids) - chunk.n_tokens
                    firsts[:, i] *= max(chunk.n_tokens, _NEGLIGIBLE)
                else:
                    yield i, chunk
                n_tokens[i] += chunk.n_new
                truncated[i] |= not chunk.is_whole

    before = np.cumsum([0, *map(len, texts)])
    share = 0.0
    for group in _groups(further()):
        i, chunk = group[-1]
        start, share = share, float((before[i] + chunk.end) / before[-1])
        vectors = encode(tokenizer.collect([chunk.ids for _, chunk in group]), start, share)
        for place, (i, chunk) in enumerate(group):
            firsts[:, i] += chunk.n_tokens * vectors[:, place]
    lengths = np.linalg.norm(firsts, axis=2, keepdims=True)
    np.divide(firsts, lengths, out=firsts, where=lengths > 0)
    return Averages(firsts, n_tokens, truncated)


def _groups(chunks: Iterable[tuple[int, Chunk]]) -> Iterator[list[tuple[int, Chunk]]]:
    group: list[tuple[int, Chunk]] = []
    n_tokens = 0
    for i, chunk in chunks:
        group.append((i, chunk))
        n_tokens += len(chunk.ids)
        if len(group) == _GROUP_CHUNKS or n_tokens >= _GROUP_TOKENS:
            yield group
            group, n_tokens = [], 0
    if group:
        yield group
