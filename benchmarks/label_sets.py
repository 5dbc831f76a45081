"""Labelled data sets: the standard library's docstrings, and public sets from folders.

Indexes are created in a folder on first use and reused. Every document has a ``part``: ``train``,
``test``, or ``repeat`` if an earlier document has the same text, so that no test text occurs in
training.
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
"""Random orders of each label's documents, ``draw_0`` and so on: ``draw_0<10`` draws ten."""

_MAX_LENGTH = 64  # as in `layerdex demo`
_TEST_EVERY = 5
_MIN_DOCSTRINGS = 20  # training documents per label, as in `layerdex demo`

# An intent has the first topic one of whose words occurs in the intent's name.
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
    """A field to predict (``by``) on the training documents of an index and on ``test`` rows.

    ``test`` rows have a ``text`` and a ``label``, which at least ``min_per_label`` training
    documents have as well.
    """

    name: str
    index: Index
    by: str
    test: tuple[Row, ...]
    min_per_label: int = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the folder of the indexes and the folders of the public data sets."""
    parser.add_argument(
        "--work", type=Path, default=Path("layerdex-demo-figures"), help="folder of the indexes"
    )
    parser.add_argument("--banking77", type=Path, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--sms-spam", type=Path, help="folder with all.jsonl")
    parser.add_argument(
        "--scifact", type=Path, help="folder with corpus.jsonl, queries.jsonl and qrels.tsv"
    )


def label_sets(options: argparse.Namespace) -> Iterator[LabelSet]:
    """Yield the label sets whose data is available."""
    index, rows = docstrings(options.work)
    for name, by in (("module", "label"), ("file", "file"), ("kind", "kind")):
        yield _label_set(f"docstrings by {name}", index, rows, by, min_per_label=_MIN_DOCSTRINGS)
    if options.banking77 is not None:
        index, rows = banking77(options.work, options.banking77)
        yield _label_set("Banking77 by intent", index, rows, "label")
        yield _label_set("Banking77 by topic", index, rows, "topic")
    if options.sms_spam is not None:
        yield _label_set("sms_spam", *sms_spam(options.work, options.sms_spam), "label")


def docstrings(work: Path) -> tuple[Index, list[Row]]:
    """Return an index of this Python's docstrings, as `layerdex demo` creates it, and its rows."""
    from layerdex.indexer.docstrings import collect_docstrings

    documents = (
        {"id": document.id, "text": document.text, "label": document.label, **document.metadata}
        for document in collect_docstrings()
    )
    rows = list(_split(documents))
    return _indexed(work / "docstrings", _with_draws(rows), max_length=_MAX_LENGTH), rows


def banking77(work: Path, folder: Path) -> tuple[Index, list[Row]]:
    """Return an index of Banking77's training set, and the rows of its training and test sets."""
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
    """Return an index of scifact's corpus, which has judged queries but no labels."""
    return _indexed(work / "scifact", read_rows(folder / "corpus.jsonl"))


def topic_of(intent: str) -> str:
    """Return the topic of an intent of Banking77, by the words in its name."""
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
    """Assign every fifth distinct text to the test set."""
    seen: set[str] = set()
    for row in rows:
        part = "repeat" if row["text"] in seen else "train"
        seen.add(row["text"])
        if part == "train" and len(seen) % _TEST_EVERY == 0:
            part = "test"
        yield {**row, "part": part}


def _indexed(path: Path, rows: Iterable[Row], *, max_length: int | None = None) -> Index:
    exists = (path / CATALOG).exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    index = (
        Index.open(path)
        if exists
        else Index.create(path, model=EncoderOptions(max_length=max_length))
    )
    index.add(list(rows), sync=True)
    return index


def _with_draws(rows: Sequence[Row]) -> Iterator[Row]:
    """Add each training document's position among those of its label, in a few random orders."""
    train = [i for i, row in enumerate(rows) if row["part"] == "train"]
    draws: dict[int, dict[str, int]] = {i: {} for i in train}
    for seed in range(N_DRAWS):
        positions: Counter[str] = Counter()
        for i in random.Random(seed).sample(train, len(train)):
            label = rows[i]["label"]
            draws[i][f"draw_{seed}"] = positions[label]
            positions[label] += 1
    for i, row in enumerate(rows):
        yield {**row, **draws.get(i, {})}


def _label_set(
    name: str, index: Index, rows: Sequence[Row], by: str, *, min_per_label: int = 1
) -> LabelSet:
    n_training = Counter(row[by] for row in rows if row["part"] == "train")
    test = tuple(
        {"text": row["text"], "label": row[by]}
        for row in rows
        if row["part"] == "test" and n_training[row[by]] >= min_per_label
    )
    return LabelSet(name, index, by, test, min_per_label)
