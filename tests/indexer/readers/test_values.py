"""Values that only Python or Parquet can express."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import read_mappings
from layerdex.records import Origin, Rejected, SourceDocument

ADVICE = "; name the fields to keep with --metadata-field"


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
        (Decimal("0.1000000000000000055"), "0.1000000000000000055"),
        (Decimal("1E+999999"), "1E+999999"),
        (Decimal(2**63), "9223372036854775808"),
        (Decimal(2**63 - 1), 2**63 - 1),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (2**70, "1180591620717411303424"),
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
        (np.float32("inf"), "is not a finite number (inf)"),
        (Decimal("-Infinity"), "is not a finite number (-inf)"),
        (
            np.timedelta64(1, "ns"),
            f"is neither text, a number, true/false nor a date (timedelta64){ADVICE}",
        ),
        (UUID(int=1), f"is neither text, a number, true/false nor a date (UUID){ADVICE}"),
        ((1, 2), f"is nested (tuple){ADVICE}"),
        (np.zeros(2), f"is nested (ndarray){ADVICE}"),
    ],
)
def test_bad_metadata_value_is_rejected(value: object, reason: str) -> None:
    good, bad = read_mappings([{"text": "a"}, {"text": "a", "m": value}])
    assert isinstance(good, SourceDocument)
    assert isinstance(bad, Rejected)
    assert bad.reason == f"metadata field 'm' {reason}"


@pytest.mark.parametrize(
    "value",
    [
        pd.NaT,
        pd.NA,
        np.datetime64("NaT"),
        np.timedelta64("NaT"),
        np.float32("nan"),
        float("nan"),
        Decimal("NaN"),
        Decimal("sNaN"),
    ],
)
def test_missing_values_are_null(value: object) -> None:
    row: dict[str, object] = {"text": "a", "id": value, "label": value, "m": value}
    (document,) = read_mappings([row])
    assert document == SourceDocument(
        "a", id=None, label=None, metadata={"m": None}, origin=Origin("<memory>", 1)
    )
    (rejected,) = read_mappings([{"text": value}])
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "text is null"


def test_id_of_too_many_digits_is_rejected() -> None:
    reading = read_one(10**5000, field="id")
    assert isinstance(reading, Rejected)
    assert reading.reason == "id is an integer of too many digits"


def test_numpy_integers_are_ids() -> None:
    document = read_one(np.int64(12), field="id")
    assert isinstance(document, SourceDocument)
    assert document.id == "12"


def test_a_time_is_no_text() -> None:
    with pytest.raises(SourceError, match=r":1: text is not a string \(datetime64\)"):
        list(read_mappings([{"text": np.datetime64("2024-01-01", "ns")}] * 2))
