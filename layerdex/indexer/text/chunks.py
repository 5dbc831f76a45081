"""Long texts: overlapping chunks of a text, and the average of their vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import and_

import numpy as np
from numpy.typing import NDArray

from layerdex.indexer.text.tokenizer import Prefix, TextTokenizer, Tokens, with_nothing_known

# Neighbouring chunks share an eighth of their tokens: a sentence split by one is whole in the next.
_TOKENS_PER_SHARED = 8
# Characters to tokenise for a chunk: at least this many, so that a text can be split at whitespace.
_MIN_LIKELY = 512
# Chunks are tokenised and encoded in groups, 19 MB of ids and, for 13 layers of 768, 41 MB of
# vectors each, so that memory does not grow with the texts.
_GROUP_CHUNKS = 1_024
_GROUP_TOKENS = 1 << 19
# The weight of a first chunk without tokens of the text: it decides only where it is alone.
_NEGLIGIBLE = 2.0**-20


@dataclass(frozen=True, slots=True)
class Chunk:
    """The characters ``start`` to ``end`` of a text.

    ``prefix`` has its tokens, with offsets from ``start`` on; ``n_new`` of them are in no earlier
    chunk, and of these ``n_unknown`` are unknown. ``is_whole`` is False if not even its first
    character fits.
    """

    prefix: Prefix
    start: int
    end: int
    n_new: int
    n_unknown: int
    is_whole: bool

    @property
    def ids(self) -> list[int]:
        """All token ids, those of the template and special ones included."""
        return self.prefix.ids

    @property
    def n_tokens(self) -> int:
        """The number of the text's own tokens."""
        return len(self.prefix.positions)


@dataclass(frozen=True, slots=True)
class Averages:
    """The averages of n texts' chunks.

    ``vectors`` is (n_layers, n, width) float32, unit length; ``n_tokens`` (n,) int32 counts each
    token of a text once, and template and special tokens once; ``truncated`` (n,) bool is True if
    a single character has more tokens than fit. ``n_unknown`` and ``unreadable`` are as in
    `Encoded`.
    """

    vectors: NDArray[np.float32]
    n_tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    n_unknown: NDArray[np.int32]
    unreadable: NDArray[np.bool_]


def split(tokenizer: TextTokenizer, text: str) -> Iterator[Chunk]:
    """Yield the chunks of a text, each being what truncation keeps of the text from its start.

    So the first chunk is the truncated text. Every other begins in the last eighth of the tokens of
    the chunk before it, at the start of a word if there is one, and together they hold the whole
    text. A chunk without new tokens is left out, unless it is the first.
    """
    start = covered = seen = 0
    n_likely = 0
    while covered < len(text):
        # One character more than is tokenised, so that the end of the slice is not taken for the
        # end of the text.
        rest = text[start : start + tokenizer.n_characters + 1]
        prefix = tokenizer.find_prefix(rest, n_likely=n_likely)
        end = start + prefix.end
        if end <= covered and start < covered:
            start = covered  # the shared tokens fill the whole chunk: share none
            continue
        is_whole = end > covered
        end = max(end, covered + 1)
        # A token that begins before what is covered is new if it reaches beyond all tokens so far;
        # one that holds parts of two characters is not, if an earlier chunk has it.
        is_new = [
            start + first < end and (start + first >= covered or start + last > seen)
            for first, last in zip(prefix.token_starts, prefix.token_ends, strict=True)
        ]
        n_new = sum(is_new)
        n_unknown = sum(map(and_, is_new, prefix.is_unknown))
        if n_new or not start:
            yield Chunk(prefix, start, end, n_new, n_unknown, is_whole)
        covered = end
        seen = max([seen, *(start + last for last in prefix.token_ends)])
        n_likely = min(max(_MIN_LIKELY, (end - start) * 3 // 2), tokenizer.n_characters)
        start = max(start + 1, min(start + _next_start(prefix), end))


def _next_start(prefix: Prefix) -> int:
    """Return the character at which the next chunk should begin."""
    n = len(prefix.token_starts)
    shared = range(n - n // _TOKENS_PER_SHARED, n)
    if not shared:
        return prefix.end
    return prefix.token_starts[next((i for i in shared if prefix.starts_word[i]), shared[0])]


def average_chunks(
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    firsts: NDArray[np.float32],
    encode: Callable[[Tokens, float, float], NDArray[np.float32]],
) -> Averages:
    """Average the unit vectors of each text's chunks, weighted by their tokens of the text.

    ``firsts`` (n_layers, n, width) float32 are the vectors of the texts' first chunks, and are
    overwritten. ``encode`` returns the unit vectors (n_layers, n_chunks, width) of further chunks;
    its other arguments are the shares of all characters before and up to the end of these chunks.
    """
    n_tokens, n_own, n_unknown = np.zeros((3, len(texts)), dtype=np.int32)
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
                n_own[i] += chunk.n_new
                n_unknown[i] += chunk.n_unknown
                truncated[i] |= not chunk.is_whole

    n_before = np.cumsum([0, *map(len, texts)])
    share = 0.0
    for group in _groups(further()):
        i, chunk = group[-1]
        start, share = share, float((n_before[i] + chunk.end) / n_before[-1])
        vectors = encode(tokenizer.to_tokens([chunk.ids for _, chunk in group]), start, share)
        for position, (i, chunk) in enumerate(group):
            firsts[:, i] += chunk.n_tokens * vectors[:, position]
    lengths = np.linalg.norm(firsts, axis=2, keepdims=True)
    np.divide(firsts, lengths, out=firsts, where=lengths > 0)
    return Averages(firsts, n_tokens, truncated, *with_nothing_known(n_unknown, n_own))


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
