"""Texts encoded ahead: while one window is committed, the next ones are tokenised and encoded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import Protocol

from layerdex.records import ConcurrentEncoder, Encoded, Encoder, ReportingEncoder
from layerdex.threads import Threads

N_PREFETCHED = 2
"""Windows that are encoded at once: one in the forward pass, and one that is tokenised."""

_INTERVAL_S = 0.25

OnTexts = Callable[[int], None]
"""Takes the number of texts that are done."""


class _StoppedError(Exception):
    """Not an error: ends an encoding that nobody waits for."""


class Encoding(Protocol):
    """Some texts on their way through an encoder."""

    @property
    def is_ready(self) -> bool:
        """Whether `result` need not wait for another thread."""
        ...

    def result(self, on_progress: OnTexts) -> Encoded:
        """Return the vectors, and tell meanwhile, in this thread, how many texts are done."""
        ...


class WindowPrefetcher:
    """Has texts encoded by threads of its own where the encoder is made for that.

    Other encoders are called by `Encoding.result`, in the thread that asks for it. Leaving the
    context stops what is under way; it takes as long as an encoder takes to tell of progress.
    """

    def __init__(self, load_encoder: Callable[[], Encoder], layers: tuple[int, ...]) -> None:
        self._load_encoder = load_encoder
        self._layers = layers
        self._threads = Threads(N_PREFETCHED, "layerdex-encode")
        self._stop = threading.Event()

    def __enter__(self) -> WindowPrefetcher:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._threads.__exit__(*error)

    def start(self, texts: Sequence[str]) -> Encoding:
        """Begin to encode; the first call loads the encoder, in this thread."""
        encoder = self._load_encoder()
        if not (isinstance(encoder, ConcurrentEncoder) and encoder.is_concurrent):
            return _InThisThread(encoder, texts, self._layers)
        return _InAnotherThread(self._threads, encoder, texts, self._layers, self._stop)


class _InThisThread:
    is_ready = True

    def __init__(self, encoder: Encoder, texts: Sequence[str], layers: tuple[int, ...]) -> None:
        self._encoder = encoder
        self._texts = texts
        self._layers = layers

    def result(self, on_progress: OnTexts) -> Encoded:
        if isinstance(self._encoder, ReportingEncoder) and self._encoder.reports_progress:
            return self._encoder.encode(self._texts, self._layers, on_progress=on_progress)
        return self._encoder.encode(self._texts, self._layers)


class _InAnotherThread:
    def __init__(
        self,
        threads: Threads,
        encoder: ConcurrentEncoder,
        texts: Sequence[str],
        layers: tuple[int, ...],
        stop: threading.Event,
    ) -> None:
        self._stop = stop
        self._n_done = 0
        self._future = threads.submit(encoder.encode, texts, layers, on_progress=self._note)

    def _note(self, n_done: int) -> None:
        """Take the encoder's progress, in its thread: callbacks belong into their caller's."""
        if self._stop.is_set():
            raise _StoppedError
        self._n_done = n_done

    @property
    def is_ready(self) -> bool:
        return self._future.done()

    def result(self, on_progress: OnTexts) -> Encoded:
        n_told = 0
        while wait([self._future], timeout=_INTERVAL_S).not_done:
            if self._n_done > n_told:
                n_told = self._n_done
                on_progress(n_told)
        return self._future.result()
