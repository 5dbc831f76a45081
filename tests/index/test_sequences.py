"""Any sequence of changes, deaths and questions agrees with a model in dicts and NumPy.

A death is what kill -9 leaves: before a step that changes the disk (see `tests.storage.steps`) the
directory is copied as it is, the operation is abandoned, and the copy takes its place. After it the
index must hold exactly what had been committed. ``--sequences N`` says how many (``make soak``
takes 5,000).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from sqlalchemy import Connection

from layerdex import Index
from layerdex.errors import DocumentNotFoundError
from layerdex.indexer.pipeline.build import build
from layerdex.indexer.readers.sources import read_all
from layerdex.storage.writer import Writer
from tests.encoders import ConcurrentWordEncoder, WordEncoder
from tests.index.model import Entry, Model
from tests.results import first
from tests.storage.steps import watched
from tests.storage.stored import query
from tests.tallies import tally

_WINDOW = 3
_N_STEPS = 10  # operations in a sequence
_WORDS = ("red", "green", "blue")
# Few, so that some are equal, and others have equal vectors ("red", "red red").
_TEXTS = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=2).map(" ".join)
_IDS = st.sampled_from([f"d{i}" for i in range(8)])
_ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": _IDS, "text": _TEXTS, "size": st.integers(0, 3)},
        optional={"label": st.sampled_from(["x", "y", None])},
    ),
    min_size=1,
    max_size=7,
    unique_by=lambda row: str(row["id"]),
)
_LAYERS = st.sampled_from([0, 3])


class _DeathError(BaseException):
    """Ends an operation as a kill does: nobody catches it."""


class Sequence(RuleBasedStateMachine):
    """One index and one model, and all that can be done to both."""

    folder: ClassVar[Path]
    n_deaths: ClassVar[int]

    @initialize()
    def begin(self) -> None:
        self.path = Path(tempfile.mkdtemp(dir=self.folder)) / "index"
        shutil.copytree(self.folder / "empty", self.path)
        self.model = Model(window=_WINDOW)
        self.reopen()

    @rule()
    def reopen(self) -> None:
        self.index = Index.open(self.path, encoder=WordEncoder(window=_WINDOW))

    @rule(rows=_ROWS)
    def add(self, rows: list[dict[str, Any]]) -> None:
        _add(self.index, rows)
        self.model.add(rows)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        ids = self._some(data)
        assert self.index.delete(*ids) == len(ids)
        for one in ids:
            del self.model.entries[one]

    @rule()
    def delete_missing(self) -> None:
        with pytest.raises(DocumentNotFoundError):
            self.index.delete(*self.model.ids()[:2], "missing")
        self.export()

    @rule()
    def compact(self) -> None:
        self.index.compact()
        ((n_segments, n_dead),) = query(
            self.path,
            "SELECT (SELECT count(*) FROM segment), (SELECT count(*) FROM document WHERE NOT live)",
        )
        assert (n_segments, n_dead) == (min(1, len(self.model.entries)), 0)

    @rule(rows=_ROWS, at=st.integers(6, 84))
    def die_adding(self, rows: list[dict[str, Any]], at: int) -> None:
        before = dict(self.model.entries)
        states = [before, *self.model.add(rows)]
        self._die(lambda: _add(self.index, rows), at, states)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data(), at=st.integers(4, 12))
    def die_deleting(self, data: st.DataObject, at: int) -> None:
        ids = self._some(data)
        before = dict(self.model.entries)
        after = {name: entry for name, entry in before.items() if name not in ids}
        self._die(lambda: self.index.delete(*ids), at, [before, after])

    @rule(rows=_ROWS, at=st.integers(14, 40))
    def die_compacting(self, rows: list[dict[str, Any]], at: int) -> None:
        self.add(rows)  # so that there is something to merge
        self._die(self.index.compact, at, [dict(self.model.entries)] * 2)

    @rule(text=_TEXTS, k=st.integers(1, 6), layer=_LAYERS)
    def search(self, text: str, k: int, layer: int) -> None:
        hits = first(self.index.search(text, k=k, layer=layer))
        self.model.check_hits(hits, text, k, layer, self.model.ids())

    @precondition(lambda self: self.model.entries)
    @rule(text=_TEXTS, k=st.integers(1, 6), size=st.integers(0, 3), label=st.sampled_from("xy"))
    def search_with_filter(self, text: str, k: int, size: int, label: str) -> None:
        hits = first(self.index.search(text, k=k, where=[f"size>={size}", f"label!={label}"]))
        ids = self.model.ids(lambda _, one: one.size >= size and one.label != label)
        self.model.check_hits(hits, text, k, 3, ids)

    @rule(threshold=st.sampled_from([0.5, 0.9, 1.0]), layer=_LAYERS)
    def deduplicate(self, threshold: float, layer: int) -> None:
        found = self.index.deduplicate(threshold=threshold, layer=layer)
        self.model.check_duplicates(found, threshold, layer)

    @rule()
    def export(self) -> None:
        found = [(one.id, one.text, one.label, one.metadata) for one in self.index.documents()]
        assert found == self.model.documents(self.model.ids())
        assert len(self.index) == len(found)

    def teardown(self) -> None:
        if hasattr(self, "index"):
            assert self.index.verify() == []
            self.export()
            for word in _WORDS:
                self.search(word, k=4, layer=3)
            shutil.rmtree(self.path.parent)

    def _some(self, data: st.DataObject) -> list[str]:
        ids = st.sampled_from(self.model.ids())
        return data.draw(st.lists(ids, min_size=1, max_size=4, unique=True))

    def _die(
        self, operation: Callable[[], object], at: int, states: list[dict[str, Entry]]
    ) -> None:
        """Die before step ``at`` of an operation, if it has as many, whose states these are."""
        copy, n_steps = self.path.with_name("copy"), 0

        def step(_: str) -> None:
            nonlocal n_steps
            n_steps += 1
            if n_steps == at + 1:
                shutil.copytree(self.path, copy)
                raise _DeathError

        with _commits_counted() as commits:
            try:
                with watched(step):
                    operation()
            except _DeathError:
                shutil.rmtree(self.path)
                copy.rename(self.path)
                Sequence.n_deaths += 1
        self.model.restore(states[min(len(commits), len(states) - 1)])
        self.reopen()
        self.export()


def _add(index: Index, rows: list[dict[str, Any]]) -> None:
    build(index._open.store, read_all([rows]), lambda: ConcurrentWordEncoder(window=_WINDOW))


@contextmanager
def _commits_counted() -> Iterator[list[None]]:
    commits: list[None] = []
    change = Writer.change

    @contextmanager
    def counting(self: Writer) -> Iterator[Connection]:
        with change(self) as connection:
            yield connection
        commits.append(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "change", counting)
        yield commits


def test_any_sequence_of_operations_agrees_with_the_model(
    memory_folder: Path, pytestconfig: pytest.Config
) -> None:
    n_sequences = pytestconfig.getoption("--sequences")
    Sequence.folder, Sequence.n_deaths = memory_folder, 0
    Index.create(memory_folder / "empty", model=WordEncoder(window=_WINDOW))
    run_machine(
        Sequence,
        settings=settings(
            max_examples=n_sequences,
            stateful_step_count=_N_STEPS,
            deadline=None,
            derandomize=n_sequences < 1_000,  # the soak looks for new ones, the suite does not
            suppress_health_check=list(HealthCheck),
        ),
    )
    tally(pytestconfig, "sequences of operations", n_sequences)
    tally(pytestconfig, "deaths within them", Sequence.n_deaths)
    assert Sequence.n_deaths > n_sequences // 10
