"""Documents as tables show them: id and label, the text, the fields that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from layerdex.cli.render.cells import Detail, Passage, make_name
from layerdex.cli.render.text import one_line, shorten

if TYPE_CHECKING:
    from rich.console import RenderableType

    from layerdex.records import Document, Scalar
    from layerdex.search.results import LabelledNeighbor

_NAME_WIDTH = 32  # of a neighbour's label or id, so that its text begins on the first line
_FIELD_LENGTH = 40  # in characters, for each line of a text that is shown
N_NEIGHBORS = 3


def describe_document(
    document_id: str,
    label: str | None,
    text: str,
    metadata: Mapping[str, Scalar],
    detail: Detail,
) -> Iterator[RenderableType]:
    """Yield the id with the label, the text, and the fields that the document has."""
    yield make_name(document_id, label)
    yield Passage(text, detail.n_lines)
    yield from describe_fields(metadata, detail)


def describe_fields(
    metadata: Mapping[str, Scalar], detail: Detail, *, prefix: str = ""
) -> Iterator[Passage]:
    """Yield the fields that were asked for and that the document has, in one passage."""
    shown = [f"{name}: {_value(metadata[name])}" for name in detail.fields if name in metadata]
    if detail.n_lines is not None:
        shown = [one_line(field, _FIELD_LENGTH * detail.n_lines) for field in shown]
    if shown:
        yield Passage(" · ".join(shown), prefix=prefix, style="dim")


def describe_neighbors(
    neighbors: Sequence[LabelledNeighbor], documents: Mapping[str, Document], detail: Detail
) -> Iterator[Passage]:
    """Yield what is shown of each neighbour, with the label that counts."""
    for neighbor in neighbors:
        document = documents[neighbor.id]
        yield from describe_related(neighbor.similarity, neighbor.label, document, detail)


def describe_related(
    similarity: float, label: str | None, document: Document, detail: Detail
) -> Iterator[Passage]:
    """Yield what is shown of a document beside another: similarity, label, id, text; fields."""
    names = (document.id,) if label is None else (label, document.id)
    words = [shorten(one_line(name), _NAME_WIDTH) for name in names]
    prefix = f"{similarity:.3f} "
    yield Passage(" · ".join([*words, document.text]), detail.n_lines, prefix=prefix, style="dim")
    yield from describe_fields(document.metadata, detail, prefix=" " * len(prefix))


def _value(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
