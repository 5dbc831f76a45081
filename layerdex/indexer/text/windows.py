"""Where a window of documents ends: a function of its texts and recorded numbers alone.

So a rerun, a resumed run and a repair have the same windows, and with them the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layerdex.choices import LongText
from layerdex.records import EncoderSettings

# Tokens are estimated, as counting them takes a tokenizer: 3.2 to 4.1 bytes each in English
# messages, questions, abstracts and docstrings.
_BYTES_PER_TOKEN = 4
# Of the blocks' linear layers, for a window: 59,000 tokens of MiniLM, which two cores encode in
# some ten seconds.
_OPERATIONS = 1_250_000_000_000
# Ending a window leaves an engine idle for part of a batch; 32 are 4 million tokens of MiniLM on a
# GPU, more than 4,096 of its texts have.
_MIN_BATCHES = 32
# A window also ends here, so that memory stays bounded for very long texts.
_MAX_CHARACTERS = 8_000_000


def choose_window_bytes(*, depth: int, width: int, token_budget: int) -> int:
    """Return the bytes of text in a window of a new index: about ten seconds on a small CPU.

    A block's linear layers take 24 * width**2 operations per token where the inner width is four
    times the width, as in BERT.
    """
    n_tokens = _OPERATIONS // (24 * max(depth, 1) * width**2)
    return _BYTES_PER_TOKEN * max(n_tokens, _MIN_BATCHES * token_budget)


class WindowFill:
    """How full a window is; a new one begins after each that ends."""

    def __init__(self, settings: EncoderSettings) -> None:
        self._max_rows = settings.window
        self._max_bytes = settings.window_bytes
        is_cut = settings.long is LongText.TRUNCATE
        self._text_bytes = _BYTES_PER_TOKEN * settings.max_length if is_cut else None
        self.clear()

    def clear(self) -> None:
        """Begin a new window."""
        self._n_rows = self._n_bytes = self._n_characters = 0

    def add(self, text: str | None) -> bool:
        """Count a row, whose text is None if it is rejected; return whether the window is full."""
        self._n_rows += 1
        if text is not None:
            self._n_characters += len(text)
            if self._max_bytes is not None:
                self._n_bytes += self._cost(text)
        is_full = (
            self._n_rows == self._max_rows
            or self._n_characters >= _MAX_CHARACTERS
            or (self._max_bytes is not None and self._n_bytes >= self._max_bytes)
        )
        if is_full:
            self.clear()
        return is_full

    def _cost(self, text: str) -> int:
        """Return the bytes of a text, of one that is truncated about those that are encoded."""
        n_bytes = len(text) if text.isascii() else len(text.encode())
        return n_bytes if self._text_bytes is None else min(n_bytes, self._text_bytes)


def split_windows(texts: Sequence[str], settings: EncoderSettings) -> Iterator[Sequence[str]]:
    """Yield the windows of consecutive texts that were read without other rows between them."""
    fill, start = WindowFill(settings), 0
    for stop, text in enumerate(texts, start=1):
        if fill.add(text) or stop == len(texts):
            yield texts[start:stop]
            start = stop
