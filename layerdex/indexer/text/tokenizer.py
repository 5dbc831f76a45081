"""Texts to token ids: special tokens are the tokenizer's, cutting is ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import OptionError
from layerdex.indexer.text.templates import Template

# Tokenising a text of 10 MB whole takes 10 s and 1.4 GB, so long texts are cut first: to this
# many characters a token, and, where that yields too few tokens, to the second number.
_CHARACTERS_PER_TOKEN = (16, 256)
_BATCH = 512


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of n texts with special tokens; which were cut; where the mask stands."""

    ids: list[list[int]]
    truncated: NDArray[np.bool_]
    mask_positions: NDArray[np.int64] | None

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Number of tokens of each text, (n,) int32."""
        return np.fromiter((len(ids) for ids in self.ids), dtype=np.int32, count=len(self.ids))


@dataclass(frozen=True, slots=True)
class Beginning:
    """As much of a text as fits: its token ids, with template and special tokens.

    ``begins`` are the characters at which the text's own tokens begin, ascending, and
    ``starts_word`` says which of them begin a word (as the tokenizer divides words). ``end`` is
    the character at which the rest of the text begins.
    """

    ids: list[int]
    begins: list[int]
    starts_word: list[bool]
    end: int


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """A tokenizer as the library tokenizers writes it (JSON), and its special tokens."""

    definition: str
    pad_id: int
    mask_token: str | None
    mask_id: int | None


class TextTokenizer:
    """A fast tokenizer with a template and a maximum length."""

    def __init__(
        self, spec: TokenizerSpec, *, template: str, max_length: int, needs_mask: bool
    ) -> None:
        """Load a tokenizer. Raises `OptionError` for a bad template or one that does not fit."""
        from tokenizers import Tokenizer

        parsed = Template.parse(template, mask_token=spec.mask_token)
        self._definition = spec.definition
        self._cutting = Tokenizer.from_str(spec.definition)
        self._cutting.no_padding()
        self._cutting.enable_truncation(max_length)
        self._template = parsed
        self._max_length = max_length
        self._limits = tuple(n * max_length for n in _CHARACTERS_PER_TOKEN)
        self._mask_id = spec.mask_id if needs_mask else None
        self._mask_is_last = needs_mask and parsed.mask_is_last(spec.mask_token)
        if len(self._cutting.encode(parsed.render("")).ids) >= max_length:
            n_template = len(self._whole.encode(parsed.render("")).ids)
            tokens = "token" if max_length == 1 else "tokens"
            raise OptionError(
                f"the template alone takes {n_template} of at most {max_length} {tokens}"
            )

    @cached_property
    def _whole(self) -> Any:
        """The tokenizer that cuts nothing; reading it takes as long as a short question."""
        from tokenizers import Tokenizer

        whole = Tokenizer.from_str(self._definition)
        whole.no_padding()
        whole.no_truncation()
        return whole

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Tokenise each text within the template, cut to the maximum length.

        The template always stays whole: it is the text that is cut.
        """
        ids: list[list[int]] = []
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for start in range(0, len(texts), _BATCH):
            part = [_shorten(text, self._limits[0]) for text in texts[start : start + _BATCH]]
            rendered = [self._template.render(text) for text in part]
            encodings = self._cutting.encode_batch_fast(rendered)
            for i, encoding in enumerate(encodings, start):
                whole, cut = self._finish(texts[i], part[i - start], encoding)
                ids.append(whole)
                truncated[i] = cut
        return Tokens(ids, truncated, self._find_masks(ids))

    @property
    def n_characters(self) -> int:
        """How far into a text is looked for tokens at most."""
        return self._limits[-1]

    def collect(self, ids: list[list[int]]) -> Tokens:
        """Return token ids that `begin` gave as `Tokens`, none of them counted as cut."""
        return Tokens(ids, np.zeros(len(ids), dtype=np.bool_), self._find_masks(ids))

    def begin(self, text: str, *, n_likely: int | None = None) -> Beginning:
        """Return what `tokenize` keeps of a text, and where.

        ``n_likely`` characters are tokenised first, where those probably give enough tokens.
        """
        likely = [] if n_likely is None else [n_likely]
        for limit in [*likely, *(one for one in self._limits if one > max([0, *likely]))]:
            part = _shorten(text, limit)
            encoding = self._cutting.encode(self._template.render(part))
            if encoding.overflowing or len(part) == len(text):
                break
        start, end = len(self._template.prefix), len(part)
        if encoding.overflowing and self._template.suffix:
            encoding, end = self._cut_text(part)
            part = part[:end]
        elif encoding.overflowing:
            rest = encoding.overflowing[0]
            ours = zip(rest.offsets, rest.special_tokens_mask, strict=True)
            end = max(0, next(first for (first, _), special in ours if not special) - start)
        begins, starts_word = _own_tokens(encoding, start, start + len(part))
        return Beginning(list(encoding.ids), begins, starts_word, end)

    def _finish(self, text: str, shortened: str, encoding: Any) -> tuple[list[int], bool]:
        overflows = bool(encoding.overflowing)
        if len(shortened) < len(text) and not overflows:
            shortened = _shorten(text, self._limits[1])
            encoding = self._cutting.encode(self._template.render(shortened))
            overflows = bool(encoding.overflowing)
        if overflows and self._template.suffix:
            return list(self._cut_text(shortened)[0].ids), True
        # Blanks at the end are no loss.
        is_cut = overflows or not (len(shortened) == len(text) or text[len(shortened) :].isspace())
        return list(encoding.ids), is_cut

    def _cut_text(self, text: str) -> tuple[Any, int]:
        """Return the encoding of as much of a text as fits, and how many characters that is."""
        start = len(self._template.prefix)
        while True:
            encoding = self._whole.encode(self._template.render(text))
            excess = len(encoding.ids) - self._max_length
            if excess <= 0:
                return encoding, len(text)
            end = start + len(text)
            begins = [first for first, last in encoding.offsets if start <= first < min(last, end)]
            # At least one token of the text goes each time, so this ends.
            text = text[: begins[-excess] - start] if excess < len(begins) else ""

    def _find_masks(self, ids: list[list[int]]) -> NDArray[np.int64] | None:
        if self._mask_id is None:
            return None
        # The text may contain mask tokens of its own; the template's is the outermost.
        if self._mask_is_last:
            found = [len(one) - 1 - one[::-1].index(self._mask_id) for one in ids]
        else:
            found = [one.index(self._mask_id) for one in ids]
        return np.array(found, dtype=np.int64)


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    # Between words, so that no token before the end changes; a cut inside a word would.
    spaces = (i for i in range(limit, limit // 2, -1) if text[i].isspace())
    return text[: next(spaces, limit)]


def _own_tokens(encoding: Any, start: int, stop: int) -> tuple[list[int], list[bool]]:
    """Return where the tokens of a text at ``start`` to ``stop`` begin in it, and which a word."""
    begins: list[int] = []
    starts_word: list[bool] = []
    before = None
    tokens = zip(encoding.offsets, encoding.special_tokens_mask, encoding.word_ids, strict=True)
    for (first, last), special, word in tokens:
        # A token may begin in the template, as one with the blank before it, and may be empty.
        if not special and first < stop and max(last, first + 1) > start:
            begins.append(max(0, first - start))
            starts_word.append(word != before)
        before = word
    return begins, starts_word
