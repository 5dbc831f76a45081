"""The threads that run batches on one replica of a model."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from layerdex.errors import ModelError


def start_workers(
    n_workers: int, *, n_threads_each: int, device: torch.device
) -> ThreadPoolExecutor:
    """Start all workers at once, each with its own number of torch threads.

    Raises `ModelError` if a worker cannot use the device.
    """
    n_threads = torch.get_num_threads()
    started = threading.Barrier(n_workers + 1)
    failures: list[Exception] = []

    def initialize() -> None:
        # An error raised here would only be logged, and the other threads would wait forever.
        try:
            torch.set_num_threads(n_threads_each)
            if device.type == "cuda":
                torch.cuda.set_device(device)
            started.wait()
        except Exception as error:
            failures.append(error)
            started.abort()

    workers = ThreadPoolExecutor(n_workers, "layerdex-torch", initialize)
    try:
        for _ in range(n_workers):
            workers.submit(int)
        started.wait()
    except BaseException as error:
        started.abort()
        workers.shutdown(wait=False)
        if isinstance(error, threading.BrokenBarrierError):
            raise ModelError(
                f"cannot start a worker on {device}: {reason_of(failures[0])}"
            ) from failures[0]
        raise
    finally:
        torch.set_num_threads(n_threads)
    return workers


def reason_of(error: Exception) -> str:
    """Return the message of a torch error, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
