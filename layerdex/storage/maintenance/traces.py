"""What artifacts still hold of documents that were in the index when they were fitted."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import Any

from layerdex.storage.artifacts import (
    HEAD,
    TRANSFORM,
    count_left,
    find_vanished_labels,
    read_artifact_record,
)
from layerdex.storage.snapshot import Snapshot
from layerdex.wording import counted

_LABEL = "label"
_N_SHOWN = 5


def find_traces(snapshot: Snapshot) -> list[str]:
    """Return what the artifacts hold of texts and labels that no live document has, as lines."""
    traces = []
    transform = read_artifact_record(snapshot, TRANSFORM)
    if transform is not None and (n_gone := _count_gone(snapshot, transform)):
        remedy = TRANSFORM.remedy(str(snapshot.path))
        traces.append(
            f"means and covariances of the transforms have a share of {counted(n_gone, 'text')} no "
            f"longer in the index: run '{remedy}' again"
        )
    head = read_artifact_record(snapshot, HEAD)
    if head is not None and (parts := _parts_of_head(snapshot, head)):
        by = "" if head["label_field"] == _LABEL else f" --by {quote(head['label_field'])}"
        remedy = HEAD.remedy(str(snapshot.path)) + by
        traces.append(f"the stored head {' and '.join(parts)}: run '{remedy}' again")
    return traces


def _parts_of_head(snapshot: Snapshot, head: Mapping[str, Any]) -> list[str]:
    parts = []
    if "n_in_index" not in head:
        parts.append("does not say on which texts it was fitted, so it may have a share of these")
    elif n_gone := _count_gone(snapshot, head):
        gone = counted(n_gone, "text")
        parts.append(f"was fitted on an index with {gone} no longer in it, and may have a share")
    if lost := find_vanished_labels(snapshot, head):
        shown = ", ".join(map(repr, lost[:_N_SHOWN])) + (", …" if len(lost) > _N_SHOWN else "")
        parts.append(f"names {shown}, which no document has any more")
    return parts


def _count_gone(snapshot: Snapshot, record: Mapping[str, Any]) -> int:
    """Return how many versions that were live at the fit are not any more."""
    return int(record.get("n_in_index", record["n"])) - count_left(snapshot, record)
