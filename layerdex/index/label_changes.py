"""Changing the labels of documents: all in one commit, and none that changed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerdex.arguments import check_type, format_value
from layerdex.errors import OptionError
from layerdex.index.open_index import OpenIndex
from layerdex.missing import is_missing
from layerdex.tabular import Brief, series_index

if TYPE_CHECKING:
    from layerdex.storage.catalog.rows import Version


Labels = Mapping[str, str | None]
"""Labels by id, None for none; a pandas series with the ids as its index will do."""


@dataclass(frozen=True, slots=True, repr=False)
class LabelConflict(Brief):
    """A document that does not have the label ``expected`` any more, but ``found``.

    They are equal where ``labels apply`` found another text than in the review.
    """

    id: str
    expected: str | None
    found: str | None


@dataclass(frozen=True, slots=True, repr=False)
class LabelChanges(Brief):
    """What `Index.set_labels` did, or would do.

    ``changed`` are the ids of the documents that got another label, and ``n_unchanged`` had it
    already. No document has one of ``unknown`` ids. ``conflicts`` were left as they are.
    ``new_labels`` are labels that no document had before, which may be misspelt.
    """

    changed: tuple[str, ...]
    n_unchanged: int
    unknown: tuple[str, ...]
    conflicts: tuple[LabelConflict, ...]
    new_labels: tuple[str, ...]


def set_labels(
    index: OpenIndex,
    labels: Labels,
    *,
    expected: Labels | None,
    missing_ok: bool,
    dry_run: bool,
    lock_timeout_s: float,
) -> LabelChanges:
    """Replace labels; see `Index.set_labels`."""
    from layerdex.storage.catalog.changes import FieldUpdate
    from layerdex.storage.writer import check_found

    checked = {_check_id(one): _check_label(one, label) for one, label in _items(labels)}
    before = {} if expected is None else dict(_items(expected))
    before = {one: None if is_missing(label) else label for one, label in before.items()}
    known = index.store.query(lambda snapshot: snapshot.count_labels())
    if dry_run:
        live = index.store.query(lambda snapshot: snapshot.versions([*checked]))
        if not missing_ok:
            check_found([*checked], live)
        return _plan(checked, before, live, known)
    with index.store.write(lock_timeout_s=lock_timeout_s) as writer:
        live = writer.find([*checked])
        if not missing_ok:
            check_found([*checked], live)
        plan = _plan(checked, before, live, known)
        if plan.changed:
            writer.update_fields(
                [
                    FieldUpdate(live[identifier], checked[identifier], live[identifier].metadata)
                    for identifier in plan.changed
                ]
            )
    return plan


def _items(labels: Labels) -> Iterable[tuple[str, str | None]]:
    if (ids := series_index(labels)) is None:
        check_type(labels, Mapping, what="labels are a mapping from id to label, None to remove it")
    elif not ids.is_unique:
        twice = format_value(ids[ids.duplicated()][0])
        raise OptionError(f"the id {twice} is there several times in the index of the labels")
    return labels.items()


def _plan(
    labels: Mapping[str, str | None],
    expected: Mapping[str, str | None],
    live: Mapping[str, Version],
    known: Mapping[str, int],
) -> LabelChanges:
    changed: list[str] = []
    conflicts: list[LabelConflict] = []
    n_unchanged = 0
    for identifier, label in labels.items():
        if identifier not in live:
            continue
        found = live[identifier].label
        if found == label:
            n_unchanged += 1
        elif expected.get(identifier, found) != found:
            conflicts.append(LabelConflict(identifier, expected[identifier], found))
        else:
            changed.append(identifier)
    given = dict.fromkeys(labels[identifier] for identifier in changed)
    return LabelChanges(
        changed=tuple(changed),
        n_unchanged=n_unchanged,
        unknown=tuple(identifier for identifier in labels if identifier not in live),
        conflicts=tuple(conflicts),
        new_labels=tuple(label for label in given if label is not None and label not in known),
    )


def _check_id(identifier: object) -> str:
    if not isinstance(identifier, str):
        raise OptionError(f"an id is a string, not {format_value(identifier)}")
    return identifier


def _check_label(identifier: str, label: object) -> str | None:
    """Return a label as a source could have it; only None removes one."""
    from layerdex.indexer.readers.labels import label_value
    from layerdex.indexer.readers.values import BadValueError

    try:
        checked = label_value(label, name="label")
    except BadValueError as error:
        raise OptionError(str(error)) from None
    if checked is None and label is not None:
        raise OptionError(
            f"the label of {identifier!r} is missing ({format_value(label)}): leave out the id, or "
            "give None to remove its label"
        )
    return checked
