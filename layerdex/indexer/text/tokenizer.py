"""Texts to token ids, within a template and truncated to a maximum length.

The tokenizer adds special tokens; truncation is done here, so that the template stays whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import OptionError
from layerdex.indexer.text.templates import Template

# Tokenising a text of 10 MB takes 10 s and 1.4 GB, so long texts are shortened first: to this many
# characters per token, and, if that gives too few tokens, to the second number.
_CHARACTERS_PER_TOKEN = (16, 256)
_BATCH = 512


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Spans of n texts that have a vector: text i has those from ``offsets[i]``, (n + 1,).

    ``tokens`` (n_spans, 2) are the first token of each span and the one behind its last.
    """

    tokens: NDArray[np.int64]
    offsets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of n texts, with special tokens.

    ``truncated`` (n,) tells which texts did not fit; ``mask_positions`` (n,) is the position of the
    template's mask token in each, for `Pooling.MASK`. With ``spans`` these are pooled in place of
    the texts.
    """

    ids: list[list[int]]
    truncated: NDArray[np.bool_]
    mask_positions: NDArray[np.int64] | None = None
    spans: TokenSpans | None = None

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Number of tokens of each text, (n,) int32."""
        return np.fromiter((len(ids) for ids in self.ids), dtype=np.int32, count=len(self.ids))


@dataclass(frozen=True, slots=True)
class Prefix:
    """The part of a text that fits: its token ids, with template and special tokens.

    ``positions`` are those of the text's own tokens among ``ids``, ``token_starts`` and
    ``token_ends`` their offsets in characters, ascending; ``starts_word`` tells which of them begin
    a word (as the tokenizer splits words), and ``is_unknown`` which the tokenizer does not know.
    The rest of the text begins at the character ``end``.
    """

    ids: list[int]
    positions: list[int]
    token_starts: list[int]
    token_ends: list[int]
    starts_word: list[bool]
    is_unknown: list[bool]
    end: int


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """A tokenizer in the JSON form of the library tokenizers, and its special tokens.

    ``max_length`` is the number of tokens that its own settings cut a text to, None for any, and
    ``keeps_end`` whether they keep a text's end; `TextTokenizer` follows neither by itself.
    """

    definition: str
    pad_id: int
    mask_token: str | None
    mask_id: int | None
    unknown_id: int | None = None
    max_length: int | None = None
    keeps_end: bool = False


class TextTokenizer:
    """A fast tokenizer with a template and a maximum length."""

    def __init__(
        self, spec: TokenizerSpec, *, template: str, max_length: int, needs_mask: bool
    ) -> None:
        """Load a tokenizer. Raises `OptionError` for a bad template or one that does not fit."""
        from tokenizers import Tokenizer

        parsed = Template.parse(template, mask_token=spec.mask_token)
        self._definition = spec.definition
        self._truncating = Tokenizer.from_str(spec.definition)
        self._truncating.no_padding()
        self._truncating.enable_truncation(max_length)
        self._template = parsed
        self._max_length = max_length
        self._limits = tuple(n * max_length for n in _CHARACTERS_PER_TOKEN)
        self._unknown_id = -1 if spec.unknown_id is None else spec.unknown_id
        self._mask_id = spec.mask_id if needs_mask else None
        self._mask_is_last = needs_mask and parsed.mask_is_last(spec.mask_token)
        self._template_ids: list[int] = self._truncating.encode(parsed.render("")).ids
        if len(self._template_ids) >= max_length:
            n_template = len(self._whole.encode(parsed.render("")).ids)
            tokens = "token" if max_length == 1 else "tokens"
            raise OptionError(
                f"the template alone takes {n_template} of at most {max_length} {tokens}"
            )

    @cached_property
    def _whole(self) -> Any:
        """The tokenizer without truncation; loading it takes as long as encoding a short query."""
        from tokenizers import Tokenizer

        whole = Tokenizer.from_str(self._definition)
        whole.no_padding()
        whole.no_truncation()
        return whole

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Tokenise each text within the template, truncated to the maximum length.

        The template always stays whole: only the text is truncated.
        """
        ids: list[list[int]] = []
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for start in range(0, len(texts), _BATCH):
            shortened = [_shorten(text, self._limits[0]) for text in texts[start : start + _BATCH]]
            rendered = [self._template.render(text) for text in shortened]
            encodings = self._truncating.encode_batch_fast(rendered)
            for i, encoding in enumerate(encodings, start):
                text_ids, truncated[i] = self._finish(texts[i], shortened[i - start], encoding)
                ids.append(text_ids)
        return Tokens(ids, truncated, self._find_masks(ids))

    def count_unknown(
        self, ids: Sequence[list[int]]
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return the unknown tokens of texts (n,), and which texts have no others (n,).

        A text of which the tokenizer keeps no token, such as one of control characters, counts as
        one unknown token.
        """
        own = [self._own_ids(row) for row in ids]
        n_unknown = np.array([row.count(self._unknown_id) for row in own], np.int32)
        return with_nothing_known(n_unknown, np.array(list(map(len, own)), np.int32))

    def _own_ids(self, ids: list[int]) -> list[int]:
        """Return the tokens of a text, without those that the template has in the same places.

        At the border the text may have changed a token of the template, as a byte-level tokenizer
        puts a blank into the token behind it.
        """
        template = self._template_ids
        n_most = min(len(ids), len(template))
        start = next((i for i in range(n_most) if ids[i] != template[i]), n_most)
        tail = range(n_most - start)
        end = next((i for i in tail if ids[-1 - i] != template[-1 - i]), len(tail))
        return ids[start : len(ids) - end]

    @property
    def n_characters(self) -> int:
        """The most characters of a text that are tokenised at once."""
        return self._limits[-1]

    def to_tokens(self, ids: list[list[int]]) -> Tokens:
        """Return the token ids of several prefixes as `Tokens`, none of them truncated."""
        return Tokens(ids, np.zeros(len(ids), dtype=np.bool_), self._find_masks(ids))

    def find_prefix(self, text: str, *, n_likely: int = 0) -> Prefix:
        """Return the part of a text that `tokenize` keeps.

        ``n_likely`` characters are tokenised first: a guess of how many are enough.
        """
        for limit in sorted({n_likely, *self._limits}):
            if limit < max(n_likely, 1):
                continue
            shortened = _shorten(text, limit)
            encoding = self._truncating.encode(self._template.render(shortened))
            if encoding.overflowing or len(shortened) == len(text):
                break
        start, end = len(self._template.prefix), len(shortened)
        if encoding.overflowing and self._template.suffix:
            encoding, end = self._truncate(shortened)
            shortened = shortened[:end]
        elif encoding.overflowing:
            rest = encoding.overflowing[0]
            offsets = zip(rest.offsets, rest.special_tokens_mask, strict=True)
            end = max(0, next(first for (first, _), special in offsets if not special) - start)
        return self._prefix(encoding, shortened, end)

    def find_prefixes(self, texts: Sequence[str]) -> Iterator[Prefix]:
        """Yield what `find_prefix` returns for each text; several texts are tokenised at once."""
        for first in range(0, len(texts), _BATCH):
            batch = texts[first : first + _BATCH]
            shortened = [_shorten(text, self._limits[0]) for text in batch]
            encodings = self._truncating.encode_batch(list(map(self._template.render, shortened)))
            for text, part, encoding in zip(batch, shortened, encodings, strict=True):
                if len(part) == len(text) and not encoding.overflowing:
                    yield self._prefix(encoding, text, len(text))
                else:
                    yield self.find_prefix(text)

    def _prefix(self, encoding: Any, text: str, end: int) -> Prefix:
        """Return the prefix of an encoded text that is kept up to the character ``end``."""
        start = len(self._template.prefix)
        own = _text_tokens(encoding, start, start + len(text))
        is_unknown = [encoding.ids[at] == self._unknown_id for at in own.positions]
        return Prefix(list(encoding.ids), *own, is_unknown, end)

    def _finish(self, text: str, shortened: str, encoding: Any) -> tuple[list[int], bool]:
        overflows = bool(encoding.overflowing)
        if len(shortened) < len(text) and not overflows:
            shortened = _shorten(text, self._limits[1])
            encoding = self._truncating.encode(self._template.render(shortened))
            overflows = bool(encoding.overflowing)
        if overflows and self._template.suffix:
            return list(self._truncate(shortened)[0].ids), True
        # Trailing whitespace is no loss.
        is_whole = len(shortened) == len(text) or text[len(shortened) :].isspace()
        return list(encoding.ids), overflows or not is_whole

    def _truncate(self, text: str) -> tuple[Any, int]:
        """Return the encoding of the part of a text that fits, and its number of characters."""
        start = len(self._template.prefix)
        while True:
            encoding = self._whole.encode(self._template.render(text))
            excess = len(encoding.ids) - self._max_length
            if excess <= 0:
                return encoding, len(text)
            end = start + len(text)
            token_starts = [
                first for first, last in encoding.offsets if start <= first < min(last, end)
            ]
            # At least one token of the text is dropped each time, so this ends.
            text = text[: token_starts[-excess] - start] if excess < len(token_starts) else ""

    def _find_masks(self, ids: list[list[int]]) -> NDArray[np.int64] | None:
        if self._mask_id is None:
            return None
        # The text itself may contain mask tokens; the template's is the first or the last.
        if self._mask_is_last:
            positions = [len(row) - 1 - row[::-1].index(self._mask_id) for row in ids]
        else:
            positions = [row.index(self._mask_id) for row in ids]
        return np.array(positions, dtype=np.int64)


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    # At whitespace, so that no token before it changes, as it would within a word.
    spaces = (i for i in range(limit, limit // 2, -1) if text[i].isspace())
    return text[: next(spaces, limit)]


def with_nothing_known(
    n_unknown: NDArray[np.int32], n_tokens: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return unknown tokens (n,), at least one in a text without known ones, and which those are.

    ``n_tokens`` (n,) are the texts' own tokens.
    """
    unreadable = n_unknown >= n_tokens
    return np.maximum(n_unknown, unreadable).astype(np.int32), unreadable


class _TextTokens(NamedTuple):
    """Positions of a text's own tokens, where they start and end, and which begin a word."""

    positions: list[int]
    starts: list[int]
    ends: list[int]
    starts_word: list[bool]


def _text_tokens(encoding: Any, start: int, stop: int) -> _TextTokens:
    """Return the tokens of the text that is at ``start`` to ``stop`` of what was encoded."""
    own = _TextTokens([], [], [], [])
    previous = None
    tokens = zip(
        encoding.offsets,
        encoding.special_tokens_mask,
        encoding.word_ids,
        strict=True,
    )
    for position, ((first, last), special, word) in enumerate(tokens):
        # A token may begin in the template, with the blank before it, and may be empty.
        if not special and first < stop and max(last, first + 1) > start:
            own.positions.append(position)
            own.starts.append(max(0, first - start))
            own.ends.append(max(last, first + 1) - start)
            own.starts_word.append(word != previous)
        previous = word
    return own
