"""What an index remembers of its sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError
from layerdex.storage.catalog.source_fields import (
    DATE_FORMATS,
    SOURCE_FIELDS,
    SourceFields,
    read_date_formats,
    read_source_fields,
)
from layerdex.storage.store import Store


@pytest.fixture
def store(path: Path) -> Store:
    return Store(path)


def test_a_new_index_remembers_nothing(index: Index) -> None:
    with index._open.store.read() as snapshot:
        assert read_source_fields(snapshot.connection) is None
        assert read_date_formats(snapshot.connection) == {}


@pytest.mark.parametrize(
    "fields",
    [
        SourceFields("Betreff", "Ticket-Nr", "Kategorie", ("Datum", "Kunde")),
        SourceFields("text", None, None, None),
    ],
)
def test_fields_are_read_as_they_were_stored(store: Store, fields: SourceFields) -> None:
    with store.write() as writer:
        writer.set(SOURCE_FIELDS, fields.to_setting())
        writer.set(DATE_FORMATS, {"Datum": "%d.%m.%Y"})
    with store.read() as snapshot:
        assert read_source_fields(snapshot.connection) == fields
        assert read_date_formats(snapshot.connection) == {"Datum": "%d.%m.%Y"}


def test_aliases_are_the_names_that_differ_from_the_parts() -> None:
    assert SourceFields("t", "Ticket-Nr", "label", None).aliases == {"Ticket-Nr": "id"}
    assert SourceFields("t", None, "Kategorie", None).aliases == {"Kategorie": "label"}


@pytest.mark.parametrize(
    "forged", [[], "text", {"text": "a"}, {"text": 1, "id": None, "label": None, "metadata": None}]
)
def test_a_forged_setting_is_damage(store: Store, forged: Any) -> None:
    with store.write() as writer:
        writer.set(SOURCE_FIELDS, forged)
    with store.read() as snapshot, pytest.raises(DamagedIndexError, match="source_fields"):
        read_source_fields(snapshot.connection)
