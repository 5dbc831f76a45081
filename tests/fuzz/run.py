"""Fuzz the readers of layer files and documents: ``python -m tests.fuzz.run --seconds 600``.

Whatever is neither an answer nor one of Layerdex's own errors is a find: another exception, a
crash, a hang, or memory beyond a bound. Each find has a seed; ``--reader R --seed S --count 1``
tries it again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from tests import limited
from tests.fuzz.children import READERS, Tally, fuzz
from tests.limited import CONTEXT, Outcome, end_limited

MEMORY_BYTES = 1 << 30
# A page of a parquet file says itself how large it is, up to 2 GiB, and pyarrow asks for as much
# before it refuses the file; what it gets it gives back.
GROWTH_BYTES = defaultdict(lambda: 256 << 20, parquet=MEMORY_BYTES)
HANG_S = 20.0
SLICE_S = 20.0
"""A child's life, so that a slow leak shows and a crash loses little."""


@dataclass
class Report:
    """What fuzzing one reader came to."""

    reader: str
    executions: int = 0
    refused: int = 0
    finds: list[str] = field(default_factory=list)

    def add(self, tally: Tally) -> None:
        """Count what one child did."""
        self.executions += tally.executions
        self.refused += tally.refused
        self.finds += tally.finds

    def __str__(self) -> str:
        counts = f"{self.executions:>9,} executions, {self.refused:>9,} refused"
        return f"{self.reader:<14} {counts}, {len(self.finds)} finds"


def run(
    reader: str, *, seed: int = 0, seconds: float | None = None, count: int | None = None
) -> Report:
    """Fuzz one reader for so many seconds or executions, in one child after the other."""
    report = Report(reader)
    left_s, left = seconds or 0.0, count or 0
    with tempfile.TemporaryDirectory() as folder:
        while left_s > 0 or left > 0:
            slice_s = min(SLICE_S, left_s) if count is None else HANG_S
            begun, start = seed, time.monotonic()
            outcome, seed, reason = _slice(reader, Path(folder), seed, slice_s, left or None)
            if isinstance(outcome.result, Tally):
                report.add(outcome.result)
                seed = begun + outcome.result.executions
            else:  # what it had done so far was sound, else it would have been a find
                report.executions += seed - begun + 1
                report.finds.append(f"seed {seed}: {reason or f'exit code {outcome.exit_code}'}")
                seed += 1
            if outcome.grown_bytes > GROWTH_BYTES[reader]:
                grown = f"{outcome.grown_bytes >> 20} MiB more memory"
                report.finds.append(f"seeds {begun} to {seed - 1}: {grown}")
            left_s -= time.monotonic() - start
            left -= seed - begun
    return report


def _slice(
    reader: str, folder: Path, seed: int, seconds: float, count: int | None
) -> tuple[Outcome, int, str | None]:
    """Run one child; return how it ended, the last seed it told of, and why it was killed."""
    current, told = CONTEXT.Pipe(duplex=False)
    arguments = (reader, folder, seed, seconds, count, told)
    process, receiver = limited.start_limited(fuzz, *arguments, memory_bytes=MEMORY_BYTES)
    told.close()
    reason, is_open = None, True
    while True:
        ready = wait([receiver, *([current] if is_open else [])], timeout=HANG_S)
        if not ready:
            reason = f"nothing came of it in {HANG_S:g} s"
            process.kill()
        if current in ready:
            try:
                seed = current.recv()
            except EOFError:
                is_open = False
        elif receiver in ready or not ready:
            outcome = end_limited(process, receiver)
            current.close()
            return outcome, seed, reason


def main() -> int:
    """Fuzz the readers by turns, print what was found, and exit with 1 where that is anything."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all readers together")
    parser.add_argument("--count", type=int, help="executions of each reader, instead of a time")
    parser.add_argument("--seed", type=int, default=0, help="of the first execution")
    parser.add_argument("--reader", choices=READERS, action="append", help="only these readers")
    given = parser.parse_args()
    readers = given.reader or READERS
    n_finds = 0
    for reader in readers:
        seconds = given.seconds / len(readers) if given.count is None else None
        report = run(reader, seed=given.seed, seconds=seconds, count=given.count)
        n_finds += len(report.finds)
        print("\n".join([str(report), *report.finds]), flush=True)
    return 1 if n_finds else 0


if __name__ == "__main__":
    sys.exit(main())
