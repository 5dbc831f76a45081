"""Exports of annotation tools: their rows are recognised and made flat.

The forms are those that the tools document: Label Studio's JSON and JSON-MIN
(labelstud.io/guide/export), doccano's JSONL, and Prodigy's (prodi.gy/docs/api-interfaces).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from layerdex.indexer.readers.fields import CHOICES, MISSING, Fields, find_field
from layerdex.indexer.readers.labels import shown
from layerdex.indexer.readers.values import Unreadable
from layerdex.records import UNSET, Origin, Unset

logger = logging.getLogger(__name__)

AnyRow = Mapping[object, object]
FlatRow = dict[object, object]

_ACCEPT, _LABEL, _LABELS = "accept", "label", "labels"
_NOT_ACCEPTED = ("reject", "ignore")
_DATA = "data."
_RESULTS = ("annotations", "completions")
_SHORT = {"annotation_id", "lead_time"}
_ANSWER_KEYS = (CHOICES, "rating", "number")
_OF_LABEL_STUDIO = (*_RESULTS, "data", "meta", "predictions", "drafts", "comment_authors")
_OF_PRODIGY = (_ACCEPT, _LABEL, "options", "tokens", "spans", "relations", "config", "meta")
_OF_DOCCANO = ("Comments", "entities", "relations", "meta")


@dataclass(frozen=True, slots=True)
class Export:
    """How the rows of a tool's export are read: flattened, with these fields."""

    decision: str
    fields: Fields
    flatten: Callable[[AnyRow, Fields], FlatRow]


def flatten_export(
    rows: Iterable[tuple[Origin, object]], *, source: str, fields: Fields
) -> tuple[Iterable[tuple[Origin, object]], Fields]:
    """Return the rows, flat if the first is of an annotation tool, and the fields to read."""
    remaining = iter(rows)
    first = next(remaining, None)
    if first is None:
        return (), fields
    rows = chain([first], remaining)
    own = fields.of(first[1]) if isinstance(first[1], Mapping) else fields
    export = recognise_export(first[1], own)
    if export is None:
        return rows, fields
    logger.warning("%s: %s", source, export.decision)
    return _flatten(rows, export), export.fields


def _flatten(
    rows: Iterable[tuple[Origin, object]], export: Export
) -> Iterator[tuple[Origin, object]]:
    for origin, row in rows:
        yield origin, export.flatten(row, export.fields) if isinstance(row, Mapping) else row


def recognise_export(row: object, fields: Fields) -> Export | None:
    """Return how the export is read that a row is of, None if it is of none."""
    if not isinstance(row, Mapping):
        return None
    if isinstance(row.get("data"), Mapping) and _has_list(row, *_RESULTS, "predictions"):
        return _label_studio(fields)
    if "_task_hash" in row or "_input_hash" in row:
        return _prodigy(row, fields)
    if _is_of_doccano(row):
        return _doccano(row, fields)
    decision = recognise_short(row, fields)
    if decision is None and _has_only_labels(row, fields):
        fields, decision = replace(fields, label=_LABELS), f"the label is read from {_LABELS!r}"
    return None if decision is None else Export(decision, fields, _copy)


def recognise_short(names: Collection[object], fields: Fields) -> str | None:
    """Return what to say of Label Studio's JSON-MIN or CSV, None for the names of any other."""
    if not {*names} >= _SHORT:
        return None
    is_named = fields.label is not None or _LABEL in names
    advice = "" if is_named else "; name the field of the label with --label-field"
    return f"read as a short export of Label Studio{advice}"


def _has_list(row: AnyRow, *names: str) -> bool:
    return any(isinstance(row.get(name), list) for name in names)


def _copy(row: AnyRow, _fields: Fields) -> FlatRow:
    return dict(row)


def _has_only_labels(row: AnyRow, fields: Fields) -> bool:
    """Return whether the label is in ``labels``; not where the fields to keep are named."""
    is_open = fields.label is None and fields.metadata is None
    return is_open and _LABEL not in row and _has_list(row, _LABELS)


def _where_label(row: AnyRow, name: str | None) -> str:
    """Return where the label is, for a decision; empty where none is read."""
    is_read = name is not None and find_field(row, name) is not MISSING
    return f" the label is in {name!r};" if is_read else ""


def _is_of_doccano(row: AnyRow) -> bool:
    has_spans = _has_list(row, "entities") and _has_list(row, "relations")
    return has_spans or _has_list(row, "Comments")


def _doccano(row: AnyRow, fields: Fields) -> Export:
    if _has_only_labels(row, fields):
        fields = replace(fields, label=_LABELS)
    decision = (
        f"read as an export of doccano:{_where_label(row, fields.label_name)} comments, entities "
        "and relations are left out"
    )
    return Export(decision, fields, _flatten_doccano)


def _flatten_doccano(row: AnyRow, fields: Fields) -> FlatRow:
    return _without(row, _OF_DOCCANO, fields) | _inside("meta", row)


def _prodigy(row: AnyRow, fields: Fields) -> Export:
    name = _accepted_name(row) if fields.label is None else fields.label_name
    decision = (
        f"read as an export of Prodigy:{_where_label(row, name)} options and spans are left out"
    )
    return Export(decision, fields, _flatten_prodigy)


def _flatten_prodigy(row: AnyRow, fields: Fields) -> FlatRow:
    """Return the row; if no field is named, its label is what the annotator accepted, or null."""
    flat = _without(row, _OF_PRODIGY, fields) | _inside("meta", row)
    name = _accepted_name(row)
    if fields.label is None and name in row:
        is_accepted = row.get("answer") not in _NOT_ACCEPTED
        flat[_LABEL] = _single(name, row[name]) if is_accepted else None
    return flat


def _accepted_name(row: AnyRow) -> str:
    return _ACCEPT if isinstance(row.get(_ACCEPT), list) else _LABEL


def _label_studio(fields: Fields) -> Export:
    """Return the export with the fields by the names that they have once ``data`` is flat."""
    label = fields.label
    decision = (
        "read as an export of Label Studio: the text is in 'data'"
        + ("" if label is UNSET else ", the label in 'annotations'")
        + (f" ({label})" if isinstance(label, str) else "")
        + "; spans are left out"
    )
    flat = replace(
        fields,
        text=fields.text.removeprefix(_DATA),
        id=_bare(fields.id),
        label=_bare(label),
        metadata=fields.metadata and tuple(name.removeprefix(_DATA) for name in fields.metadata),
    )
    return Export(decision, flat, _flatten_label_studio)


def _bare(name: str | Unset | None) -> str | Unset | None:
    return name.removeprefix(_DATA) if isinstance(name, str) else name


def _flatten_label_studio(row: AnyRow, fields: Fields) -> FlatRow:
    flat = _without(row, _OF_LABEL_STUDIO, fields) | _inside("meta", row)
    data = row.get("data")
    for name, value in data.items() if isinstance(data, Mapping) else ():
        flat[f"{_DATA}{name}" if name in flat else name] = value
    answers = _answers(row)
    if fields.label is None:
        flat[_LABEL] = _only_answer(answers, flat.get(_LABEL))
        answers = {} if len(answers) == 1 else answers
    root = (fields.label_name or "").partition(".")[0]
    for name, values in answers.items():
        is_list = name == root or len(values) > 1
        flat[f"annotations.{name}" if name in flat else name] = values if is_list else values[0]
    return flat


def _only_answer(answers: Mapping[object, list[object]], default: object) -> object:
    """Return the answer to the only question, or why there is none; the default without any."""
    if len(answers) > 1:
        names = " and ".join(map(repr, answers))
        return Unreadable(f"there are answers to {names}: name one with --label-field")
    for name, values in answers.items():
        return _single(name, values)
    return default


def _single(name: object, value: object) -> object:
    """Return a field's answer, or why it is none: there are several."""
    if not isinstance(value, list) or len(value) < 2:
        return value
    several = f"{name!r} has {len(value)} answers ({shown(value)})"
    return Unreadable(f"{several}: --label-field {name}.0 reads the first")


def _answers(row: AnyRow) -> dict[object, list[object]]:
    """Return the different answers of the annotators to each question."""
    found: dict[object, list[object]] = {}
    for result in _results(row):
        value = result.get("value")
        for key in _ANSWER_KEYS:
            if isinstance(value, Mapping) and key in value:
                answer = value[key]
                known = found.setdefault(result.get("from_name", key), [])
                given = answer if isinstance(answer, list) else [answer]
                known += [one for one in given if one not in known]
    return found


def _results(row: AnyRow) -> Iterator[AnyRow]:
    for annotation in chain.from_iterable(_objects(row.get(name)) for name in _RESULTS):
        if not annotation.get("was_cancelled"):
            yield from _objects(annotation.get("result"))


def _objects(value: object) -> list[AnyRow]:
    members = value if isinstance(value, list) else []
    return [one for one in members if isinstance(one, Mapping)]


def _without(row: AnyRow, names: Collection[str], fields: Fields) -> FlatRow:
    """Return the row without a tool's own lists and objects, unless a field is read from them."""
    named = [name for name in fields.own_names if name] + [*(fields.metadata or ())]
    asked = {*named, *(name.partition(".")[0] for name in named)}
    return {
        name: value
        for name, value in row.items()
        if name not in names or name in asked or not isinstance(value, (Mapping, list))
    }


def _inside(name: str, row: AnyRow) -> FlatRow:
    """Return the fields of an object under the paths that lead there."""
    inner = row.get(name)
    members = inner if isinstance(inner, Mapping) else {}
    return {f"{name}.{key}": one for key, one in members.items()}
