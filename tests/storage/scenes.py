"""Operations on small indexes, run in children that are killed, and judging what they leave."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from layerdex import Index
from tests.encoders import WordEncoder
from tests.results import hits_by_layer
from tests.storage.corpora import flip_byte, rows
from tests.storage.next_schema import NEXT, OLD, installed, make_old, schema_of
from tests.storage.steps import (
    DELETED,
    NEW_RECALL,
    NEW_SHRINKAGE,
    TENTH,
    accelerate,
    child,
    corpus,
    failing_child,
    operate,
)
from tests.storage.stored import Version, layer_paths, query, read_versions

_OLD_SHRINKAGE = 0.2
_OLD_RECALL = 0.5

# Each child is forked from a process that has imported everything, so it starts at once.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.storage.steps", "tests.storage.crowd", "faiss", "alembic.command", "alembic.config"]
)


@dataclass
class Scene:
    """An index before an operation, its committed states on the way, and the operation's steps."""

    operation: str
    before: Path
    states: list[list[Version]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _prepare(operation: str, path: Path) -> None:
    if operation == "migrate":
        make_old(path.parent)
        return
    index = Index.create(path, model=WordEncoder())
    index.add([{"id": f"old{i}", "text": f"old text {i}", "label": "y"} for i in range(4)])
    if operation != "index":
        index.add(corpus())
    if operation == "merge":
        for row in rows(9, start=100):  # of one document, beside the four of the corpus
            index.add([row])
        index.delete("d100", "d104")
    if operation == "compact":
        index.delete("old3", "d7")
    if operation == "transform":
        index.fit_transforms(shrinkage=_OLD_SHRINKAGE)
    if operation == "accelerate":
        accelerate(index, _OLD_RECALL)
    if operation == "repair":
        first, second, *_, last = layer_paths(path)
        flip_byte(first)
        second.unlink()
        shutil.rmtree(last.parent)


def _states(scene: Scene, folder: Path) -> list[list[Version]]:
    """Return the committed states: after each window, or before and after the operation."""
    path = folder / "states"
    shutil.copytree(scene.before, path)
    states = [] if scene.operation == "repair" else [read_versions(path)]
    if scene.operation == "index":
        for end in range(8, len(corpus()) + 8, 8):
            shutil.rmtree(path)
            shutil.copytree(scene.before, path)
            Index.open(path, encoder=WordEncoder()).add(corpus()[:end])
            states.append(read_versions(path))
        return states
    operate(scene.operation, path)
    return [*states, read_versions(path)]


def make_scene(operation: str, folder: Path) -> Scene:
    """Prepare an index and run the operation on a copy of it, undisturbed."""
    scene = Scene(operation, folder / "index")
    _prepare(scene.operation, scene.before)
    scene.states = _states(scene, folder)
    run(scene, folder, die_at=None)  # the first child of all waits for the imports
    start = time.monotonic()
    code, names = run(scene, folder, die_at=None)
    scene.seconds = time.monotonic() - start
    assert code == 0
    scene.steps = json.loads(names.read_text(encoding="utf-8"))
    return scene


def run(
    scene: Scene,
    folder: Path,
    *,
    die_at: int | None,
    wait_s: float | None = None,
    broken: bool = False,
) -> tuple[int | None, Path]:
    """Operate on a copy of the index in a child; return its exit code and the file of steps."""
    path, names = folder / "killed", folder / "names.json"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(scene.before, path)
    process = CONTEXT.Process(
        target=partial(child, scene.operation, path, die_at=die_at, names=names, broken=broken)
    )
    process.start()
    if wait_s is not None:
        time.sleep(wait_s)
        process.kill()
    process.join()
    return process.exitcode, names


def run_failing(scene: Scene, folder: Path, *, fail_at: int, stays: bool) -> tuple[int, str]:
    """Operate on a copy of the index while a step fails; return exit code and message."""
    path, message = folder / "failed", folder / "message.txt"
    for old in (path, message):
        shutil.rmtree(old, ignore_errors=True)
        old.unlink(missing_ok=True)
    shutil.copytree(scene.before, path)
    process = CONTEXT.Process(
        target=partial(
            failing_child, scene.operation, path, fail_at=fail_at, stays=stays, message=message
        )
    )
    process.start()
    process.join()
    text = message.read_text(encoding="utf-8") if message.exists() else ""
    return process.exitcode or 0, text


def check(scene: Scene, path: Path) -> None:
    """Check what a killed writer left, and that a rerun completes the operation."""
    with installed() if scene.operation == "migrate" else nullcontext():
        _check(scene, path)


def _check(scene: Scene, path: Path) -> None:
    if scene.operation == "migrate":
        assert schema_of(path) in (OLD, NEXT)
    else:
        problems = Index.open(path, damaged=True).verify()
        assert problems == [] or (
            scene.operation == "repair" and all(problem.segment is not None for problem in problems)
        )
    if scene.operation != "repair":
        _check_state(scene, read_versions(path))
    if scene.operation == "transform":
        assert _use_transforms(path) in (_OLD_SHRINKAGE, NEW_SHRINKAGE)
    if scene.operation == "accelerate":
        assert _load_approximates(path) <= {_OLD_RECALL, NEW_RECALL}
    encoder = WordEncoder()
    _rerun(scene, path, encoder)
    assert read_versions(path) == scene.states[-1]
    assert Index.open(path).verify() == []
    committed = {name for (name,) in query(path, "SELECT name FROM segment")}
    assert {entry.name for entry in (path / "segments").iterdir()} == committed
    assert list(path.rglob("*.new*")) == []


def _check_state(scene: Scene, versions: list[Version]) -> None:
    if versions in scene.states:
        return
    # A compaction commits group by group; versions and vectors stay the same.
    assert scene.operation in ("compact", "merge", "purge")
    assert _live(versions) in map(_live, scene.states)


def _live(versions: list[Version]) -> list[Version]:
    return [version for version in versions if version.live]


def _rerun(scene: Scene, path: Path, encoder: WordEncoder) -> None:
    index = Index.open(path, encoder=encoder, damaged=True)
    match scene.operation:
        case "index":
            n_committed = 8 * scene.states.index(read_versions(path))
            index.add(corpus())
            # What was committed is not encoded again, and a new label needs no encoding.
            left = [row for row in corpus()[n_committed:] if row.get("label") != "z"]
            assert encoder.encoded == [row["text"] for row in left]
        case "merge":
            index.add(TENTH)
            assert index.info().n_segments < 9
        case "delete":
            present = {document.id for document in index.documents()}
            index.delete(*(name for name in DELETED if name in present))
            index.add([])  # if all were deleted, this is the writer that removes what is left
        case "purge":
            present = {document.id for document in index.documents()}
            index.delete(*(name for name in DELETED if name in present), purge=True)
            texts = [v.text.encode() for v in scene.states[0] if v.id in DELETED]
            assert len(texts) == len(DELETED)
            assert not any(text in data for text in texts for data in _contents(path))
        case "migrate":
            index.add([])  # any next writer removes what is left
        case "compact":
            index.compact()
        case "repair":
            index.repair(index.verify())
        case "transform":
            index.fit_transforms(shrinkage=NEW_SHRINKAGE)
            assert _use_transforms(path) == NEW_SHRINKAGE
            assert len(list((path / "transforms").iterdir())) == 1
        case "accelerate":
            accelerate(index, NEW_RECALL)
            assert _load_approximates(path) == {NEW_RECALL}
            assert len(list((path / "approximate").iterdir())) == 2


def _contents(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in path.rglob("*") if file.is_file()]


def _use_transforms(path: Path) -> float:
    """Search with the transforms of an index, and return their shrinkage."""
    index = Index.open(path)
    assert hits_by_layer(index.search_like("d4", layer="all", transform="whiten"))
    [shrinkage] = set((index.info().transform or {})["shrinkages"].values())
    return float(shrinkage)


def _load_approximates(path: Path) -> set[float]:
    """Load the approximate indexes of two layers, and return the recalls that they are for."""
    index = Index.open(path)
    with index._open.store.read() as snapshot:
        for layer in (2, 3):
            found = index._open.approximates.find(index._open.store, snapshot, layer)
            assert found is not None
            assert found.index.n == snapshot.n_documents
    return {each["target"] for each in index.info().approximate or []}


def spread(places: list[int], n: int) -> list[int]:
    """Return at most n of the places, evenly spread, with the first and the last."""
    if len(places) <= n:
        return places
    return [places[round(i * (len(places) - 1) / max(1, n - 1))] for i in range(n)]
