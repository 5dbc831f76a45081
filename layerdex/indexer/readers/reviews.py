"""A review of labels, as ``suspects -o`` writes it and ``labels apply`` takes it back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from layerdex.choices import Format
from layerdex.errors import OptionError, RowError
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.fields import MISSING, find_field
from layerdex.indexer.readers.input_rows import InputFields, read_input_rows
from layerdex.indexer.readers.labels import label_value
from layerdex.indexer.readers.values import BadValueError, id_value
from layerdex.records import Source

DECISION = "new_label"
"""The column of the decision: another label, `NO_LABEL` for none (in any case), or empty."""

NO_LABEL = "(none)"


@dataclass(frozen=True, slots=True)
class ReviewFields(InputFields):
    """The fields of a review: its decision stands where other files have a text."""

    text: str = DECISION

    @property
    def text_option(self) -> str:
        """What messages call the decision."""
        return "decision"

    def suggest(self, option: str, name: str, names: Collection[object]) -> str:  # noqa: ARG002
        """No option names another field."""
        return "'suspects -o', whose file has the columns id, label and new_label"


@dataclass(frozen=True, slots=True)
class Review:
    """The decided rows of a review: labels by id, None for none, and those that they had.

    ``expected`` lacks the ids of rows without a column ``label``, and ``texts`` those without a
    ``text``. ``n_undecided`` rows have no decision.
    """

    labels: dict[str, str | None]
    expected: dict[str, str | None]
    n_undecided: int
    texts: dict[str, str] = field(default_factory=dict)


def read_review(
    source: Source, *, format: Format | str = Format.AUTO, dialect: Dialect | None = None
) -> Review:
    """Read a review.

    Raises `SourceError`, `RowError` for a row that cannot be read or a decided one without an id,
    and `OptionError` for two decisions about one document.
    """
    review, n_undecided = Review({}, {}, 0), 0
    for reading in read_input_rows(source, ReviewFields(), format=format, dialect=dialect):
        row = reading.row
        try:
            decision = _label(row, DECISION)
            if decision is None:
                n_undecided += 1
                continue
            identifier = id_value(row.get("id"), field="id", empty_advice="")
            if identifier is None:
                raise BadValueError("a row with a new_label needs the id of its document")
            label = None if decision.strip().casefold() == NO_LABEL else decision
            if review.labels.get(identifier, label) != label:
                raise OptionError(f"the review has two decisions about the id {identifier!r}")
            review.labels[identifier] = label
            if "label" in row:
                review.expected[identifier] = _label(row, "label")
            if isinstance(text := row.get("text"), str) and text.strip():
                review.texts[identifier] = text
        except BadValueError as error:
            raise RowError(f"{reading.origin}: {error}") from None
    return Review(review.labels, review.expected, n_undecided, review.texts)


def _label(row: Mapping[object, object], name: str) -> str | None:
    """Return a label, None for an empty cell; a spreadsheet's user may leave blanks in it."""
    value = find_field(row, name)
    if value is MISSING or (isinstance(value, str) and not value.strip()):
        return None
    return label_value(value, name=name, field=name)
