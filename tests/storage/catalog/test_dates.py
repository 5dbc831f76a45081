"""Dates and times as values have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdex.storage.catalog.dates import COMPARISONS, parse_iso

EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("text", "begin", "lasts"),
    [
        ("2026-06-30", datetime(2026, 6, 30), timedelta(days=1)),
        ("2026-6-1", datetime(2026, 6, 1), timedelta(days=1)),
        ("2026-06", datetime(2026, 6, 1), timedelta(days=30)),
        ("2026-12", datetime(2026, 12, 1), timedelta(days=31)),
        ("2026-06-30T14", datetime(2026, 6, 30, 14), timedelta(hours=1)),
        ("2026-06-30T14:05", datetime(2026, 6, 30, 14, 5), timedelta(minutes=1)),
        ("2026-06-30 14:05:07", datetime(2026, 6, 30, 14, 5, 7), timedelta(seconds=1)),
        ("2026-6-1 14:05", datetime(2026, 6, 1, 14, 5), timedelta(minutes=1)),
        (
            "2026-06-30T14:05:07.123",
            datetime(2026, 6, 30, 14, 5, 7, 123_000),
            timedelta(microseconds=1),
        ),
        ("2026-06-30Z", datetime(2026, 6, 30, tzinfo=UTC), timedelta(days=1)),
        ("2026-06-30+02:00", datetime(2026, 6, 30, tzinfo=EAST), timedelta(days=1)),
        ("2026-06-30T14+02", datetime(2026, 6, 30, 14, tzinfo=EAST), timedelta(hours=1)),
        ("2026-06-30T14+02:00", datetime(2026, 6, 30, 14, tzinfo=EAST), timedelta(hours=1)),
        ("2026-06-30T14:05Z", datetime(2026, 6, 30, 14, 5, tzinfo=UTC), timedelta(minutes=1)),
        ("2026-06-30T14:05+0200", datetime(2026, 6, 30, 14, 5, tzinfo=EAST), timedelta(minutes=1)),
        (
            "2026-06-30T14:05:07.5+02:00",
            datetime(2026, 6, 30, 14, 5, 7, 500_000, tzinfo=EAST),
            timedelta(microseconds=1),
        ),
    ],
)
def test_a_time_lasts_as_long_as_it_is_stated(text: str, begin: datetime, lasts: timedelta) -> None:
    found = parse_iso(text)
    assert found is not None
    assert (found.begin, found.end - found.begin) == (begin, lasts)
    assert found.begin.utcoffset() == begin.utcoffset()


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026", "20260630", "2026-W26", "2026-W26-2", "2026-06-31", "2026-13", "0123-11"),
        *("2026-06-30x14:05", "2026-06-30T1405", "2026-06-30T25:00", "2026-06-30-01", "1.2.2026"),
        *(" 2026-06-30", "2026-06-30T", "2026-06-30T14:05:07.", "٢٠٢٦-٠٦-٣٠", "2026-06-30T140507Z"),
    ],
)
def test_other_texts_are_no_dates(text: str) -> None:
    assert parse_iso(text) is None


@given(st.datetimes(), st.sampled_from(["T", " "]), st.sampled_from(["minutes", "seconds", "auto"]))
def test_any_time_is_read_back(moment: datetime, separator: str, precision: str) -> None:
    found = parse_iso(moment.isoformat(separator, timespec=precision))
    assert found is not None
    assert found.begin <= moment
    assert moment < found.end or moment.year == datetime.max.year


@given(st.text("0123456789-T: Z+.", max_size=26), st.sampled_from(["2026-06-30Z", "0001-01-01Z"]))
def test_any_text_is_compared_or_no_date(text: str, bound: str) -> None:
    other = parse_iso(bound)
    assert other is not None
    for each in (text, f"0001-01-01T00:00+14:{text[:2]}", f"9999-12-31T23:59-14:{text[:2]}"):
        found = parse_iso(each)
        if found is not None and found.is_aware:
            verdicts = {
                symbol.value: compare(found, other) for symbol, compare in COMPARISONS.items()
            }
            assert verdicts["="] is (verdicts["<="] and verdicts[">="])
