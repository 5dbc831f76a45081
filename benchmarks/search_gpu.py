"""Exact search on a GPU: seconds, the share of the matrix ceiling and of the memory bandwidth.

Vectors come from a seed, with 1,000 centres and falling variances, in float16 as an index has them;
no texts are needed. "first" includes sending the vectors to the device, "again" does not. The
ceiling is that of one large product in float16, the bandwidth that of a copy, both measured here.
Of a product of a tile, 9 bytes are moved besides: written, read for its largest and for the limit,
and its mask written, counted and read.

With ``--check`` the same queries are answered on the CPU too, and must be equal.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.results_file import command_line, save, spread
from layerdex.records import Rows, Vectors
from layerdex.search.knn.tiles.asked_device import use_device
from layerdex.search.knn.tiles.device import Device
from layerdex.search.knn.tiles.nearest import NearestSearch
from layerdex.search.knn.tiles.others import find_others
from layerdex.search.knn.tiles.vectors import N_CODED_QUERIES
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.storage.vectors.layer_vectors import VectorSlice

_BYTES_PER_PRODUCT = 9
_CHUNK = 250_000


class HalfVectors:
    """Vectors in float16, decoded where they are called for; rows are positions."""

    def __init__(self, codes: NDArray[np.float16]) -> None:
        self._codes = codes
        self.width = codes.shape[1]
        self.n_documents = len(codes)

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of rows in any order, (n_rows, width) float32."""
        wide: Vectors = self._codes[rows].astype(np.float32)
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        return wide

    def slices(self, rows: Rows | None = None) -> Iterator[VectorSlice]:
        """Yield all rows at once; what is compared in tiles is gathered."""
        all_rows = np.arange(self.n_documents) if rows is None else rows
        yield from InMemoryVectors(all_rows, np.empty((len(all_rows), 0), np.float32)).slices()


def main() -> None:
    """Print and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("-n", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("-k", type=int, nargs="+", default=[10, 4_000])
    parser.add_argument("--others", type=int, default=200_000, help="documents of leave-one-out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.queries < N_CODED_QUERIES:
        parser.error(f"fewer than {N_CODED_QUERIES:,} queries are compared on the CPU")
    device = Device(options.device)
    ceiling, bandwidth = _ceiling(device), _bandwidth(device)
    print(f"ceiling {ceiling / 1e12:.1f} TFLOP/s, bandwidth {bandwidth / 1e9:.0f} GB/s", flush=True)
    results: dict[str, Any] = {"ceiling": ceiling, "bandwidth": bandwidth, "sizes": {}}
    for n in options.n:
        source = HalfVectors(_make(n, options.width, device))
        results["sizes"][n] = {
            f"k={k}": _measure(source, k, options, device, ceiling, bandwidth) for k in options.k
        }
    n = min(options.others, *options.n)
    few = HalfVectors(_make(n, options.width, device))
    start = time.perf_counter()
    with use_device(lambda: device):
        find_others(few, np.arange(n), 10)
    results["others"] = {"n": n, "seconds": time.perf_counter() - start}
    print(f"10 nearest others of {n:,}: {results['others']['seconds']:.2f} s", flush=True)
    save("search_gpu", command_line("benchmarks.search_gpu"), results)


def _measure(
    source: HalfVectors,
    k: int,
    options: argparse.Namespace,
    device: Device,
    ceiling: float,
    bandwidth: float,
) -> dict[str, Any]:
    random = np.random.default_rng(1)
    n, n_queries = source.n_documents, options.queries
    queries = source.gather(random.choice(n, n_queries)) + 0.02 * random.standard_normal(
        (n_queries, source.width)
    ).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with use_device(lambda: device):
        search = NearestSearch(source, n_queries=n_queries)
        start = time.perf_counter()
        found = search.find(queries, k)
        first = time.perf_counter() - start
        again = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            search.find(queries, k)
            again.append(time.perf_counter() - start)
    products = n * n_queries
    figures: dict[str, Any] = {
        "first": first,
        "again": spread(again),
        "share of the ceiling": 2 * products * source.width / min(again) / ceiling,
        "share of the bandwidth": _BYTES_PER_PRODUCT * products / min(again) / bandwidth,
    }
    print(f"{n:,} vectors, {n_queries:,} queries, k = {k}: {figures}", flush=True)
    if options.check:
        plain = NearestSearch(source, n_queries=n_queries).find(queries, k)
        np.testing.assert_array_equal(found[0], plain[0])
        np.testing.assert_array_equal(found[1], plain[1])
        print("equal to the CPU's", flush=True)
    return figures


def _make(n: int, width: int, device: Device) -> NDArray[np.float16]:
    generator = torch.Generator(device.torch).manual_seed(0)
    made = np.empty((n, width), np.float16)

    def normal(n_rows: int) -> torch.Tensor:
        return torch.randn((n_rows, width), generator=generator, device=device.torch)

    centres = normal(1_000)
    scale = torch.exp(-torch.arange(width, device=device.torch) / (width / 6))
    for start in range(0, n, _CHUNK):
        n_rows = min(_CHUNK, n - start)
        of = torch.randint(1_000, (n_rows,), generator=generator, device=device.torch)
        wide = (centres[of] + 1.5 * normal(n_rows)) * scale
        unit = torch.nn.functional.normalize(wide, dim=1)
        made[start : start + n_rows] = unit.half().cpu().numpy()
    return made


def _ceiling(device: Device) -> float:
    """Return the best rate of a large product in float16, in operations per second."""
    size = 8_192 if device.is_gpu else 512
    left = torch.randn((size, size), device=device.torch).half()
    return max(2 * size**3 / _seconds(device, lambda: left @ left) for _ in range(5))


def _bandwidth(device: Device) -> float:
    """Return the bytes per second that a copy reads and writes."""
    n_bytes = 2 << 30 if device.is_gpu else 1 << 26
    source = torch.zeros(n_bytes, dtype=torch.uint8, device=device.torch)
    target = torch.empty_like(source)
    return max(2 * n_bytes / _seconds(device, lambda: target.copy_(source)) for _ in range(5))


def _seconds(device: Device, work: Any) -> float:
    def wait() -> None:
        if device.is_gpu:
            torch.cuda.synchronize(device.torch)

    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
