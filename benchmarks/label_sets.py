"""Label sets to measure on: the standard library's docstrings, and public sets given by path.

Indexes are made in a folder at first use and kept there. Every document has a ``part``: ``train``,
``test``, or ``repeat`` where its text came before, so that no test text was seen in training.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerdex import EncoderOptions
from layerdex.index import Index
from layerdex.storage.directory import CATALOG

Row = dict[str, Any]

TRAIN = "part=train"
N_DRAWS = 3
"""Orders of a label's documents, as ``draw_0`` and so on: those below 10 are ten at random."""

_MAX_LENGTH = 64  # as `layerdex demo`
_TEST_EVERY = 5
_LEAST_DOCSTRINGS = 20  # training documents a label, as `layerdex demo`

# The topic of an intent is the first with a word that the intent's name contains.
_TOPICS = {
    "top-up": ("top_up", "topping_up"),
    "transfer": ("transfer", "beneficiary", "receiving_money"),
    "exchange": ("exchange", "currenc"),
    "cash": ("cash", "atm"),
    "card": ("card",),
    "account": (
        *("account", "age_limit", "country", "identity", "passcode", "personal_details"),
        *("phone", "pin_", "_pin", "verify"),
    ),
}
_OTHER_TOPIC = "payment"


@dataclass(frozen=True, slots=True)
class LabelSet:
    """What is predicted (``by``) of the training documents of an index and of ``test`` rows.

    ``test`` rows have a ``text`` and a ``label`` that at least ``min_per_label`` training
    documents have too.
    """

    name: str
    index: Index
    by: str
    test: tuple[Row, ...]
    min_per_label: int = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where indexes are kept, and where the given sets are."""
    parser.add_argument(
        "--work", type=Path, default=Path("layerdex-demo-figures"), help="indexes are kept here"
    )
    parser.add_argument("--banking77", type=Path, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--sms-spam", type=Path, help="folder with all.jsonl")
    parser.add_argument(
        "--scifact", type=Path, help="folder with corpus.jsonl, queries.jsonl and qrels.tsv"
    )


def label_sets(options: argparse.Namespace) -> Iterator[LabelSet]:
    """Yield the sets that there is data for."""
    index, rows = docstrings(options.work)
    for name, by in (("module", "label"), ("file", "file"), ("kind", "kind")):
        yield _of(f"docstrings by {name}", index, rows, by, least=_LEAST_DOCSTRINGS)
    if options.banking77 is not None:
        index, rows = banking77(options.work, options.banking77)
        yield _of("Banking77 by intent", index, rows, "label")
        yield _of("Banking77 by topic", index, rows, "topic")
    if options.sms_spam is not None:
        yield _of("sms_spam", *sms_spam(options.work, options.sms_spam), "label")


def docstrings(work: Path) -> tuple[Index, list[Row]]:
    """Return an index of this Python's docstrings, as `layerdex demo` makes it, and its rows."""
    from layerdex.indexer.docstrings import collect_docstrings

    found = (
        {"id": one.id, "text": one.text, "label": one.label, **one.metadata}
        for one in collect_docstrings()
    )
    rows = list(_split(found))
    return _indexed(work / "docstrings", _with_draws(rows), max_length=_MAX_LENGTH), rows


def banking77(work: Path, folder: Path) -> tuple[Index, list[Row]]:
    """Return an index of Banking77's training set, and the rows of both parts as they are split."""
    rows = [
        {**row, "part": part, "topic": topic_of(row["label"])}
        for part in ("train", "test")
        for row in read_rows(folder / f"{part}.jsonl")
    ]
    train = [row for row in rows if row["part"] == "train"]
    return _indexed(work / "banking77", _with_draws(train)), rows


def sms_spam(work: Path, folder: Path) -> tuple[Index, list[Row]]:
    """Return an index of sms_spam, and its rows."""
    rows = list(_split(read_rows(folder / "all.jsonl")))
    return _indexed(work / "sms_spam", _with_draws(rows)), rows


def scifact(work: Path, folder: Path) -> Index:
    """Return an index of scifact's corpus, which has judged queries and no labels."""
    return _indexed(work / "scifact", read_rows(folder / "corpus.jsonl"))


def topic_of(intent: str) -> str:
    """Return the coarse topic of one of Banking77's intents, by the words in its name."""
    name = intent.lower()
    for topic, words in _TOPICS.items():
        if any(word in name for word in words):
            return topic
    return _OTHER_TOPIC


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a jsonl file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _split(rows: Iterable[Row]) -> Iterator[Row]:
    """Give every fifth of the different texts to the test part."""
    seen: set[str] = set()
    for row in rows:
        part = "repeat" if row["text"] in seen else "train"
        seen.add(row["text"])
        if part == "train" and len(seen) % _TEST_EVERY == 0:
            part = "test"
        yield {**row, "part": part}


def _indexed(path: Path, rows: Iterable[Row], *, max_length: int | None = None) -> Index:
    is_there = (path / CATALOG).exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    index = (
        Index.open(path)
        if is_there
        else Index.create(path, model=EncoderOptions(max_length=max_length))
    )
    index.add(list(rows), sync=True)
    return index


def _with_draws(rows: Sequence[Row]) -> Iterator[Row]:
    """Add each training document's place among those of its label, in a few random orders."""
    train = [i for i, row in enumerate(rows) if row["part"] == "train"]
    draws: dict[int, dict[str, int]] = {i: {} for i in train}
    for seed in range(N_DRAWS):
        places: Counter[str] = Counter()
        for i in random.Random(seed).sample(train, len(train)):
            label = rows[i]["label"]
            draws[i][f"draw_{seed}"] = places[label]
            places[label] += 1
    for i, row in enumerate(rows):
        yield {**row, **draws.get(i, {})}


def _of(name: str, index: Index, rows: Sequence[Row], by: str, *, least: int = 1) -> LabelSet:
    n_training = Counter(row[by] for row in rows if row["part"] == "train")
    test = tuple(
        {"text": row["text"], "label": row[by]}
        for row in rows
        if row["part"] == "test" and n_training[row[by]] >= least
    )
    return LabelSet(name, index, by, test, least)
