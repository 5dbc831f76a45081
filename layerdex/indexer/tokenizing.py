"""Texts to token ids: special tokens are the tokenizer's, cutting is ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import OptionError
from layerdex.indexer.templates import Template

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
class TokenizerFacts:
    """A tokenizer as the library tokenizers writes it (JSON), and its special tokens."""

    definition: str
    pad_id: int
    mask_token: str | None
    mask_id: int | None


class TextTokenizer:
    """A fast tokenizer with a template and a maximum length."""

    def __init__(
        self, facts: TokenizerFacts, *, template: Template, max_length: int, needs_mask: bool
    ) -> None:
        """Take a tokenizer; raises `OptionError` if the template does not fit."""
        from tokenizers import Tokenizer

        self._whole = Tokenizer.from_str(facts.definition)
        self._whole.no_padding()
        self._whole.no_truncation()
        self._cutting = Tokenizer.from_str(self._whole.to_str())
        self._cutting.enable_truncation(max_length)
        self._template = template
        self._max_length = max_length
        self._mask_id = facts.mask_id if needs_mask else None
        self._mask_is_last = needs_mask and template.mask_is_last(facts.mask_token)
        n_template = len(self._whole.encode(template.render("")).ids)
        if n_template >= max_length:
            raise OptionError(
                f"the template alone takes {n_template} of at most {max_length} tokens"
            )

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Tokenise each text within the template, cut to the maximum length.

        The template always stays whole: it is the text that is cut.
        """
        ids: list[list[int]] = []
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for start in range(0, len(texts), _BATCH):
            part = [self._shorten(text, 0) for text in texts[start : start + _BATCH]]
            rendered = [self._template.render(text) for text in part]
            encodings = self._cutting.encode_batch_fast(rendered)
            for i, encoding in enumerate(encodings, start):
                whole, cut = self._finish(texts[i], part[i - start], encoding)
                ids.append(whole)
                truncated[i] = cut
        return Tokens(ids, truncated, self._find_masks(ids))

    def _finish(self, text: str, shortened: str, encoding: Any) -> tuple[list[int], bool]:
        overflows = bool(encoding.overflowing)
        if len(shortened) < len(text) and not overflows:
            shortened = self._shorten(text, 1)
            encoding = self._cutting.encode(self._template.render(shortened))
            overflows = bool(encoding.overflowing)
        if overflows and self._template.suffix:
            return self._cut_text(shortened), True
        # Blanks at the end are no loss.
        is_cut = overflows or not (len(shortened) == len(text) or text[len(shortened) :].isspace())
        return list(encoding.ids), is_cut

    def _shorten(self, text: str, step: int) -> str:
        limit = _CHARACTERS_PER_TOKEN[step] * self._max_length
        if len(text) <= limit:
            return text
        # Between words, so that no token before the end changes; a cut inside a word would.
        spaces = (i for i in range(limit, limit // 2, -1) if text[i].isspace())
        return text[: next(spaces, limit)]

    def _cut_text(self, text: str) -> list[int]:
        start = len(self._template.prefix)
        while True:
            encoding = self._whole.encode(self._template.render(text))
            excess = len(encoding.ids) - self._max_length
            if excess <= 0:
                return list(encoding.ids)
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
