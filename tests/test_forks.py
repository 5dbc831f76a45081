"""Processes forked from one that has used an index: they answer, or refuse at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from layerdex.errors import ModelError
from layerdex.indexer.engines.openvino.engine import is_installed
from layerdex.indexer.engines.torch.engine import TorchEngine
from layerdex.indexer.fair_lock import FairLock
from tests.indexer import loaded
from tests.tiny_models import save_tiny_model

HANGS_S = 150

ASKS_AND_WRITES = """
import multiprocessing, os, sys, threading, warnings
import numpy as np
from layerdex import EncoderOptions, Index, LabelTask, RuntimeOptions
from tests.encoders import WordEncoder
from tests.tiny_models import sentence

path, model, engine = sys.argv[1:]

def ask():
    like = index.search_like("d3", layer="all", k=4)
    one = index.search(sentence(5, seed=900), layer="all", k=4)
    many = index.search([sentence(5, seed=seed) for seed in range(30)], k=4)
    results = (*like, *one, *many)
    return np.array([[hit.similarity for hit in result.hits] for result in results])

def check(answer):
    # OpenVINO's children use torch; with fewer threads sums are rounded otherwise.
    np.testing.assert_allclose(answer, expected, atol=1e-3 if engine == "openvino" else 1e-5)

def fork(work):
    pid = os.fork()
    if not pid:
        work()
        sys.exit()  # not `os._exit`: what Python frees at its end must not wait either
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status

def be_child():
    check(ask())
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        check(answer)
    assert len(answers) == 2
    fork(be_grandchild)

def be_grandchild():
    check(ask())

def work(n):
    new = [{"id": f"n{n}-{i}", "text": sentence(6, seed=1_000 + 10 * n + i), "label": "a"}
           for i in range(4)]
    index.add(new, lock_timeout_s=60)
    index.delete(f"n{n}-0", lock_timeout_s=60)
    (label,) = index.classify([sentence(7, seed=n)], k=1)
    index.evaluate(LabelTask(k=3))
    index.deduplicate()
    index.compact(lock_timeout_s=60)
    (result,) = index.search([sentence(7, seed=n)], k=1)
    return label.label, result.hits[0].id, index.verify()

def ask_a_pool(context):
    with context.Pool(2) as pool:
        return pool.map_async(work, range(4), chunksize=1).get(timeout=120)

if engine == "words":
    index = Index.create(path, model=WordEncoder(width=64, window=64))
else:
    runtime = RuntimeOptions(engine=engine, dtype="float32")
    index = Index.create(path, model=EncoderOptions(model=model), runtime=runtime)
index.add({"id": f"d{i}", "text": sentence(7, seed=i), "label": "ab"[i % 2]} for i in range(200))
expected = ask()
for _ in range(1 if engine == "openvino" else 2):  # its children load torch anew
    fork(be_child)
    check(ask())

index.evaluate(LabelTask(k=3))
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads about
answers = ask_a_pool(multiprocessing.get_context("fork"))
assert answers == [("ab"[n % 2], f"d{n}", []) for n in range(4)], answers
print(len(index), len(index.verify()))
"""

# Two threads on any machine: with one, OpenMP has nobody to wait for.
TWO_THREADS = {"OMP_NUM_THREADS": "2"}


def run(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a script; it fails if one of its processes hangs."""
    environment = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"}
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_S,
        env={**environment, **TWO_THREADS},
    )


@pytest.mark.parametrize(
    "engine", ["words", pytest.param("torch", marks=pytest.mark.soak), "openvino"]
)
def test_children_answer_as_their_parent_does_and_a_pool_of_them_writes(
    engine: str, tmp_path: Path
) -> None:
    if engine == "openvino" and not is_installed():
        pytest.skip("OpenVINO is not installed")
    model = save_tiny_model("bert", tmp_path / "model") if engine != "words" else ""
    result = run(ASKS_AND_WRITES, tmp_path / "index", model, engine)
    assert (result.returncode, result.stdout) == (0, "212 0\n"), result.stderr
    notes = set(result.stderr.splitlines())
    assert notes == (ON_TORCH if engine == "openvino" else set())


ON_TORCH = {
    "torch runs the model: OpenVINO cannot run in a process forked after it has run; fork earlier"
}

WRITES = """
import os, subprocess, sys, time
from layerdex import Index
from layerdex.errors import LayerdexError, LockedIndexError
from tests.encoders import WordEncoder

path, = sys.argv[1:]
index = Index.create(path, model=WordEncoder())
other = Index.create(path + "-other", model=WordEncoder())
forked = []

def on_progress(done, total):
    if forked or not done:
        return
    forked.append(os.fork())
    if forked[0] == 0:
        for use in (lambda: index.search("a cat"), lambda: other.add(["a dog"])):
            try:
                use()
            except LayerdexError as error:
                print("child:", error, flush=True)
        raise SystemExit  # through all of the writer's frames
    _, status = os.waitpid(forked[0], 0)
    print("child ended with", os.waitstatus_to_exitcode(status), flush=True)
    try:
        Index.open(path, encoder=WordEncoder()).add(["a third"], lock_timeout_s=0)
    except LockedIndexError:
        print("the parent still holds the lock", flush=True)

index.add([{"id": str(i), "text": f"text {i}"} for i in range(30)], on_progress=on_progress)
print(len(index), len(index.verify()))
"""


def test_a_writers_child_neither_uses_the_index_nor_releases_the_lock(tmp_path: Path) -> None:
    result = run(WRITES, tmp_path / "index")
    refused = (
        "child: an index was in use when this process was forked, so none can be used here: fork "
        "while no question and no writer is running, or start processes with 'spawn'"
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        refused,
        refused,
        "child ended with 0",
        "the parent still holds the lock",
        "30 0",
    ]


def test_a_model_that_was_at_work_during_the_fork_refuses_in_the_child() -> None:
    lock = FairLock()
    with lock.hold():
        lock._renew()  # what a fork calls in the child
    with (
        pytest.raises(ModelError, match=r"in use when this process was forked.*'spawn'"),
        lock.hold(),
    ):
        pass


def test_a_model_on_a_gpu_refuses_in_the_child(tmp_path: Path) -> None:
    engine = loaded.load(save_tiny_model("bert", tmp_path / "model")).engine
    assert isinstance(engine, TorchEngine)
    (replica,) = engine._replicas
    replica._device = torch.device("cuda:0")
    replica._renew()
    with pytest.raises(ModelError, match=r"on cuda:0, and CUDA does not work in it.*'spawn'"):
        replica.submit(None, (0,))  # type: ignore[arg-type]


ENVIRONMENT = """
import os, sys
import layerdex.forks

name, *values = "TOKENIZERS_PARALLELISM", *sys.argv[1:]
for value in values:
    os.environ[name] = value
if not os.fork():
    os._exit(0)
os.wait()
print(os.environ.get(name))
"""


@pytest.mark.parametrize("values", [[], ["0"], ["false"], ["true"]])
def test_a_fork_leaves_the_parents_environment_as_it_was(values: list[str]) -> None:
    assert run(ENVIRONMENT, *values).stdout.split() == (values or ["None"])


IN_A_QUESTION = """
import os, sys, threading, time
from layerdex import Index
from layerdex.errors import LayerdexError
from tests.encoders import WordEncoder

path, = sys.argv[1:]
index = Index.create(path, model=WordEncoder())
index.add([{"id": "a", "text": "a cat"}])
asking, done = threading.Event(), threading.Event()

def ask():
    with index._open.store.read():
        asking.set()
        done.wait()

thread = threading.Thread(target=ask)
thread.start()
asking.wait()
child = os.fork()
if not child:
    start = time.monotonic()
    for write in (lambda: index.add([{"id": "b", "text": "a dog"}]), lambda: index.delete("a")):
        try:
            write()
        except LayerdexError as error:
            print("child:", str(error).split(":")[0], time.monotonic() - start < 5, flush=True)
    time.sleep(600)
time.sleep(1)
index.add([{"id": "c", "text": "a cow"}], lock_timeout_s=0)
done.set()
thread.join()
os.kill(child, 9)
print(len(index), len(index.verify()))
"""


def test_a_child_forked_during_a_question_refuses_and_leaves_the_lock(tmp_path: Path) -> None:
    result = run(IN_A_QUESTION, tmp_path / "index")
    refused = "child: an index was in use when this process was forked, so none can be used here"
    assert result.stdout.splitlines() == [f"{refused} True", f"{refused} True", "2 0"]
