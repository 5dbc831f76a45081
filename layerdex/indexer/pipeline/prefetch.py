"""Prefetching: while a window is committed, the next ones are tokenised and encoded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import Protocol

from layerdex.records import ConcurrentEncoder, Encoded, Encoder, ReportingEncoder
from layerdex.threads import Threads

N_PREFETCHED = 2
"""Windows in other threads at once: one in the forward pass, and one being tokenised."""

_INTERVAL_S = 0.25

OnTexts = Callable[[int], None]
"""Takes the number of texts done."""


class _StoppedError(Exception):
    """Ends an encoding whose result is not needed; not an error."""


class Encoding(Protocol):
    """Some texts that are being encoded."""

    @property
    def is_ready(self) -> bool:
        """Whether `result` need not wait for another thread."""
        ...

    def result(self, on_progress: OnTexts) -> Encoded:
        """Wait for the vectors, calling ``on_progress`` in this thread meanwhile."""
        ...


class WindowPrefetcher:
    """Encodes texts in threads of its own, if the encoder is a `ConcurrentEncoder`.

    Other encoders run in `Encoding.result`, in the thread that calls it. Leaving the context stops
    running encodings, each at its next call of ``on_progress``.
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
        """Start encoding; the first call loads the encoder, in this thread."""
        encoder = self._load_encoder()
        if not (isinstance(encoder, ConcurrentEncoder) and encoder.is_concurrent):
            return _SerialEncoding(encoder, texts, self._layers)
        return _ThreadedEncoding(self._threads, encoder, texts, self._layers, self._stop)


class _SerialEncoding:
    is_ready = True

    def __init__(self, encoder: Encoder, texts: Sequence[str], layers: tuple[int, ...]) -> None:
        self._encoder = encoder
        self._texts = texts
        self._layers = layers

    def result(self, on_progress: OnTexts) -> Encoded:
        if isinstance(self._encoder, ReportingEncoder) and self._encoder.reports_progress:
            return self._encoder.encode(self._texts, self._layers, on_progress=on_progress)
        return self._encoder.encode(self._texts, self._layers)


class _ThreadedEncoding:
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
        """Record progress, in the encoder's thread; the callback is called in the run's thread."""
        if self._stop.is_set():
            raise _StoppedError
        self._n_done = n_done

    @property
    def is_ready(self) -> bool:
        return self._future.done()

    def result(self, on_progress: OnTexts) -> Encoded:
        n_reported = 0
        while wait([self._future], timeout=_INTERVAL_S).not_done:
            if self._n_done > n_reported:
                n_reported = self._n_done
                on_progress(n_reported)
        return self._future.result()
