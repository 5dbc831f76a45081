"""Values that only Python or Parquet can express."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from layerdex.indexer.readers import read_mappings
from layerdex.records import Rejected, SourceDocument


class Mixed(str, enum.Enum):  # noqa: UP042 - its str() is not its value, a StrEnum's is
    A = "a"


def read_one(value: object, *, field: str = "m") -> SourceDocument | Rejected:
    (reading,) = read_mappings([{"text": "a", field: value}])
    return reading


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (dt.date(2024, 2, 29), "2024-02-29"),
        (dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.UTC), "2024-02-29T01:02:03+00:00"),
        (dt.time(1, 2), "01:02:00"),
        (pd.Timestamp("2024-02-29T01:02:03"), "2024-02-29T01:02:03"),
        (np.datetime64("2024-02-29T01:02:03", "ns"), "2024-02-29T01:02:03"),
        (np.datetime64("2024-02-29T01:02:03.000000001"), "2024-02-29T01:02:03.000000001"),
        (Decimal("3.00"), 3),
        (Decimal("0.5"), 0.5),
        (np.int8(-3), -3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("ü"), "ü"),
        (Mixed.A, "a"),
    ],
)
def test_metadata_value_becomes_a_json_scalar(value: object, expected: object) -> None:
    document = read_one(value)
    assert isinstance(document, SourceDocument)
    assert document.metadata == {"m": expected}
    assert type(document.metadata["m"]) is type(expected)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (pd.NaT, "is not a date (NaT)"),
        (np.datetime64("NaT"), "is not a date (NaT)"),
        (np.float32("nan"), "is not a finite number (nan)"),
        (Decimal("NaN"), "is not a finite number (nan)"),
        (Decimal("sNaN"), "is not a finite number (nan)"),
        (Decimal("-Infinity"), "is not a finite number (-inf)"),
        (Decimal("1E+999999"), "is an integer beyond 64 bits"),
        (Decimal(2**63), "is an integer beyond 64 bits"),
        (np.uint64(2**63), "is an integer beyond 64 bits"),
        (np.timedelta64(1, "ns"), "is neither text, a number, true/false nor a date (timedelta64)"),
        (UUID(int=1), "is neither text, a number, true/false nor a date (UUID)"),
        ((1, 2), "is nested (tuple); name the fields to keep with --metadata-field"),
        (np.zeros(2), "is nested (ndarray); name the fields to keep with --metadata-field"),
    ],
)
def test_bad_metadata_value_is_rejected(value: object, reason: str) -> None:
    reading = read_one(value)
    assert isinstance(reading, Rejected)
    assert reading.reason == f"metadata field 'm' {reason}"


def test_id_of_too_many_digits_is_rejected() -> None:
    reading = read_one(10**5000, field="id")
    assert isinstance(reading, Rejected)
    assert reading.reason == "id is an integer of too many digits"


def test_numpy_integers_are_ids() -> None:
    document = read_one(np.int64(12), field="id")
    assert isinstance(document, SourceDocument)
    assert document.id == "12"


@pytest.mark.parametrize("field", ["text", "id", "label"])
def test_times_are_neither_texts_nor_names(field: str) -> None:
    (reading,) = read_mappings([{"text": "a", field: np.datetime64("2024-01-01", "ns")}])
    assert isinstance(reading, Rejected)
    assert reading.reason.startswith(f"{field} is n")
    assert reading.reason.endswith("(datetime64)")
