"""The records that all rooms share, and the `Encoder` protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import LongText, Pooling
from layerdex.options import EncoderOptions, TextFile
from layerdex.tabular import TEXT, Brief, Table, TabularList, with_metadata
from layerdex.wording import counted

Scalar = str | int | float | bool
"""A metadata value."""

Vectors = NDArray[np.float32]
"""Decoded vectors of one layer, shape (n, width), float32, unit length."""

EncodedVectors = NDArray[np.float32]
"""Vectors of several layers as an encoder returns them, shape (n_layers, n, width), float32."""

LayerName = int | str
"""The name of a target: a layer's number, or that of layers fused, such as ``mean(3-4)``."""

Rows = NDArray[np.int64]
"""Catalog rows, shape (n,), int64, ascending unless said otherwise."""

Source = str | Path | Iterable[Mapping[str, Any]]
"""Where documents come from: a path, ``-`` for standard input, a data frame or mappings."""

OnProgress = Callable[[int, int | None], None]
"""Called with how much is done and the total, which is None where it is unknown."""


def progress_of_parts(on_progress: OnProgress | None, n_parts: int) -> list[OnProgress | None]:
    """Return a callback for each of several equal parts, which are done one after another."""
    if on_progress is None:
        return [None] * n_parts

    def tell(at: int, done: int, total: int | None) -> None:
        on_progress(at * (total or 0) + done, None if total is None else n_parts * total)

    return [partial(tell, at) for at in range(n_parts)]


def progress_of_shares(
    on_progress: OnProgress | None, shares: Sequence[float], total: int
) -> list[OnProgress | None]:
    """Return a callback for each of several parts, which take these shares of the time.

    They are done one after another, and count up to ``total`` together.
    """
    if on_progress is None:
        return [None] * len(shares)
    sums = [0.0, *accumulate(shares)]
    ends = [each / (sums[-1] or 1) for each in sums]

    def tell(at: int, done: int, of: int | None) -> None:
        within = done / of if of else 0.0
        on_progress(round(total * (ends[at] + (ends[at + 1] - ends[at]) * within)), total)

    return [partial(tell, at) for at in range(len(shares))]


def tell_beginning(on_progress: OnProgress | None) -> None:
    """Tell one of such parts' callbacks that it begins: what came before is not counted."""
    if on_progress is not None:
        on_progress(0, 1)


def tell_end(on_progress: OnProgress | None) -> None:
    """Tell one of such parts' callbacks that it is done, also where there was nothing to do."""
    if on_progress is not None:
        on_progress(1, 1)


class Unset(Enum):
    """The type of `UNSET`: a field that is missing, as opposed to null."""

    UNSET = "unset"


UNSET: Literal[Unset.UNSET] = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row came from: ``source`` is a path or ``<stdin>``, ``line`` counts from 1.

    ``row`` counts from 1 too, and is given where a line holds several rows.
    """

    source: str
    line: int | None = None
    row: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        line = "" if self.line is None else f":{self.line}"
        row = "" if self.row is None else f", row {self.row}"
        return f"{self.source}{line}{row}"


@dataclass(frozen=True, slots=True, repr=False)
class SourceDocument(Brief):
    """A document as a source has it, before it is in an index.

    ``id`` is None where the source has none. ``label`` is `UNSET` where it is missing (an update
    keeps the old label) and None where it is null (an update clears it). Likewise a metadata field
    is absent or None.
    """

    text: str
    id: str | None = None
    label: str | Unset | None = UNSET
    metadata: Mapping[str, Scalar | None] = field(default_factory=dict)
    origin: Origin = Origin("<memory>")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not a document, and why.

    ``id`` is the id that the document would have had: None where the row has neither id nor text,
    so that it stands for no document, and `UNSET` where the id is unknown.
    """

    origin: Origin
    reason: str
    id: str | Unset | None = field(default=UNSET, compare=False)  # not part of equality

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Blank(Rejected):
    """A row whose text is null, empty or only white space; ``in_table`` for a table's cell."""

    is_null: bool = field(default=False, compare=False)
    in_table: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, repr=False)
class Document(Brief):
    """A live document of an index."""

    row: int
    id: str
    text: str
    label: str | None
    metadata: dict[str, Scalar]

    def as_row(self) -> dict[str, Any]:
        """Return the document as ``export`` writes it and ``index`` reads it."""
        return {"id": self.id, "text": self.text, "label": self.label, "metadata": self.metadata}


class Documents(TabularList[Document]):
    """Documents in the order asked for; a list."""

    __slots__ = ()

    def _summary(self) -> str:
        first = f", the first {self[0]!r}" if self else ""
        return counted(len(self), "document") + first

    def _table(self) -> Table:
        rows = (
            with_metadata({"id": one.id, "label": one.label, "text": one.text}, one.metadata)
            for one in self
        )
        return Table({"id": TEXT, "label": TEXT, "text": TEXT}, len(self), rows)


@dataclass(frozen=True, slots=True, repr=False)
class Truncated(Brief):
    """A live document whose text was longer than the maximum length."""

    id: str
    n_characters: int
    n_tokens_kept: int
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class Unknown(Brief):
    """A live document with tokens that the tokenizer does not know.

    Of ``n_tokens``, special tokens included, ``n_unknown`` are unknown. ``unreadable`` is True if
    all tokens of the text itself are, so that its vectors say nothing about it.
    """

    id: str
    n_tokens: int
    n_unknown: int
    unreadable: bool
    text: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """The encoding of n texts.

    ``vectors`` is (n_layers, n, width) float32 of unit length, which storage rounds. ``n_tokens``
    is (n,) int32, special tokens included; in a text of several chunks each token counts once.
    ``truncated`` is (n,) bool: the end of the text was cut. ``n_unknown`` is (n,) int32, the tokens
    that the tokenizer does not know, and ``unreadable`` (n,) bool: no token of the text is known,
    so that its vectors say nothing about it. Both are None if the encoder does not count them.
    """

    vectors: EncodedVectors
    n_tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    n_unknown: NDArray[np.int32] | None = None
    unreadable: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class EncodedSpans:
    """The encoding of spans of n_texts texts, numbered through all of them.

    ``vectors`` (n_layers, n, width) float32 of unit length are those of the spans ``numbers`` (n,)
    int64, ascending. The others are ``cut`` (n_spans,) bool, as they are not whole in what was read
    together, or have no token, as one of a control character. ``n_tokens`` (n_texts,) int32 are the
    tokens that were read, and ``truncated`` (n_texts,) bool whether the end was not.
    """

    vectors: EncodedVectors
    numbers: NDArray[np.int64]
    cut: NDArray[np.bool_]
    n_tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a model was quantised to int8, and how near its vectors are to those in float32.

    ``method`` and ``version`` are Layerdex's recipe and the quantiser's version, ``calibration`` is
    the digest of the ``n_calibrating`` texts. The figures were measured on ``n_checked`` other
    texts at layers 0 to the depth: the mean and the lowest cosine to the float32 vectors, and the
    share of a text's 10 nearest neighbours among these texts that stay.
    """

    method: str
    version: str
    calibration: str
    n_calibrating: int
    n_checked: int
    mean_cosines: tuple[float, ...]
    lowest_cosines: tuple[float, ...]
    overlaps: tuple[float, ...]

    @classmethod
    def from_setting(cls, stored: Mapping[str, Any]) -> Quantization:
        """Read what `dataclasses.asdict` wrote. Raises TypeError or ValueError."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        return cls(**values)

    @property
    def identity(self) -> tuple[str, str, str]:
        """What decides the vectors; the same for every graph that is made in the same way."""
        return self.method, self.version, self.calibration

    def describe(self) -> str:
        """Return the figures of all layers in one phrase."""
        means, overlaps = self.mean_cosines, self.overlaps
        return (
            f"mean cosine to float32 {min(means):.4f} to {max(means):.4f} by layer, lowest "
            f"{min(self.lowest_cosines):.4f}; of 10 neighbours {min(overlaps):.0%} to "
            f"{max(overlaps):.0%} stay, among {self.n_checked} texts"
        )


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """The settings of an encoder, as an index stores them.

    ``fingerprint`` digests what decides a vector; ``token_budget``, ``window`` and ``window_bytes``
    decide how texts are batched, and so the exact bytes, but not the vectors beyond the stated
    tolerance. A window ends at ``window`` rows or at ``window_bytes`` bytes of UTF-8, None for no
    such bound; a text that is truncated counts at most four bytes for each of ``max_length``.
    ``adapter`` is the folder whose weights were merged into the model's. ``pads`` is False for a
    model whose vectors padding would change: then only texts of equal length share a batch.
    ``quantization`` is None for an exact encoder; ``calibration`` is the file of its texts, None
    for those that come with Layerdex.
    """

    model: str
    revision: str | None
    pooling: Pooling
    template: str
    max_length: int
    depth: int
    width: int
    fingerprint: str
    token_budget: int
    window: int
    long: LongText = LongText.TRUNCATE
    adapter: str | None = None
    pads: bool = True
    window_bytes: int | None = None
    calibration: TextFile | None = None
    quantization: Quantization | None = None

    def options(self) -> EncoderOptions:
        """Return the options that make this encoder again, all of them resolved."""
        names = [field.name for field in fields(EncoderOptions)]
        return EncoderOptions(**{name: getattr(self, name) for name in names})


class Encoder(Protocol):
    """Turns texts into vectors; what the other rooms know of a model."""

    @property
    def settings(self) -> EncoderSettings:
        """The settings that an index made with this encoder stores."""
        ...

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        """Encode texts, in their order, at the given layers (resolved, ascending)."""
        ...


@runtime_checkable
class ReportingEncoder(Encoder, Protocol):
    """An encoder that reports progress; the attribute is what can be checked at run time."""

    reports_progress: Literal[True]

    def encode(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoded:
        """Encode as `Encoder.encode` does, and report now and then how many texts are done."""
        ...


@runtime_checkable
class ConcurrentEncoder(ReportingEncoder, Protocol):
    """An encoder that several threads may call at once, for example to tokenise during a pass.

    An error raised by ``on_progress`` must end `encode`. Runs then encode windows ahead.
    """

    is_concurrent: Literal[True]


@runtime_checkable
class TemplatedEncoder(Encoder, Protocol):
    """An encoder that can put another prompt around texts, for example around queries."""

    def with_template(self, template: str) -> Encoder:
        """Return an encoder of the same model with another template (`OptionError` if bad)."""
        ...
