"""What artifacts still hold of documents on which they were fitted, and that are purged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, func, select

from layerdex.storage.artifacts import HEAD, TRANSFORM, ArtifactKind, read_artifact_record
from layerdex.storage.catalog.schema import DEAD, DOCUMENT, LIVE, METADATUM
from layerdex.storage.snapshot import Snapshot

_N_SHOWN = 5


def find_traces(snapshot: Snapshot) -> list[str]:
    """Return what the artifacts may hold of dead versions, as one line each.

    Call it before these are dropped. A version that is older than a fit may be part of it; whether
    it was live then is not recorded.
    """
    transform = read_artifact_record(snapshot, TRANSFORM)
    head = read_artifact_record(snapshot, HEAD)
    traces = []
    if transform is not None and (n := _count_dead(snapshot, transform)):
        traces.append(_trace(snapshot, TRANSFORM, n, "their means and covariances"))
    if head is not None and (n := _count_dead(snapshot, head, DOCUMENT.c.label.is_not(None))):
        traces.append(_trace(snapshot, HEAD, n, "its weights" + _lost_labels(snapshot, head)))
    return traces


def _trace(snapshot: Snapshot, kind: ArtifactKind, n: int, what: str) -> str:
    return (
        f"the {kind.name} may have been fitted on {n:,} of the purged texts, which then left their "
        f"mark on {what}: run '{kind.remedy(str(snapshot.path))}' again"
    )


def _count_dead(snapshot: Snapshot, record: Mapping[str, Any], *where: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(DOCUMENT).where(DEAD, *where)
    if (next_row := record.get("next_row")) is not None:  # not recorded by 0.1.0 for heads
        query = query.where(DOCUMENT.c.row < next_row)
    return snapshot.connection.scalar(query) or 0


def _lost_labels(snapshot: Snapshot, head: Mapping[str, Any]) -> str:
    """Name the labels of a head that no document has any more."""
    if head["label_field"] == "label":
        query = select(DOCUMENT.c.label).where(LIVE).distinct()
    else:
        values = select(METADATUM.c.text).join(DOCUMENT, DOCUMENT.c.row == METADATUM.c.row)
        query = values.where(LIVE, METADATUM.c.name == head["label_field"]).distinct()
    lost = sorted(set(head["labels"]) - set(snapshot.connection.scalars(query)))
    shown = ", ".join(map(repr, lost[:_N_SHOWN])) + (", …" if len(lost) > _N_SHOWN else "")
    return f", and it still names {shown}" if lost else ""
