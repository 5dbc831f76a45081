"""What commands need beside the questions to an index: sources, files, checks of an index.

Each function is thin: it gives `cli` one public name for something that another room knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerdex.choices import ExportFormat, Format, StoredPrecision
from layerdex.errors import DamagedIndexError, RowError
from layerdex.index.target_options import default_layer as find_default_layer
from layerdex.options import EncoderOptions
from layerdex.records import UNSET, Rejected, SourceDocument

if TYPE_CHECKING:
    from layerdex.index.facade import Index
    from layerdex.index.view import View
    from layerdex.indexer.pipeline.pipeline import BuildReport
    from layerdex.indexer.readers import Fields
    from layerdex.indexer.training.plan import Plan
    from layerdex.storage.maintenance.info import IndexInfo
    from layerdex.storage.maintenance.verify import Problem


__all__ = [
    "BuildReport",
    "Fields",
    "IndexInfo",
    "Plan",
    "Problem",
    "atomic_write",
    "check_catalog",
    "check_settings",
    "check_sources",
    "collect_docstrings",
    "count_targets",
    "default_layer",
    "discard_if_unused",
    "export_format_of",
    "find_damage",
    "find_folder",
    "is_index",
    "make_fields",
    "make_plan",
    "read_queries",
    "vector_bytes",
]


def make_fields(
    *, text: str, id: str | None, label: str | None, metadata: tuple[str, ...] | None
) -> Fields:
    """Return the names of a document's parts in a source."""
    from layerdex.indexer.readers import Fields

    return Fields(text=text, id=id, label=label, metadata=metadata)


def make_plan(**settings: Any) -> Plan:
    """Return how an adapter is trained; raises `OptionError`."""
    from layerdex.indexer.training.plan import Plan

    return Plan(**settings)


def check_sources(sources: Sequence[str], *, format: Format) -> None:
    """Raise `SourceError` for a source that cannot be read, before anything is read."""
    from layerdex.indexer.readers import check_sources as check

    check(sources, format=format)


def read_queries(source: str, *, text_field: str) -> list[tuple[str | None, str]]:
    """Return the ids (None for none) and texts of a file of queries; raises `RowError`.

    Other fields of a row are ignored.
    """
    from layerdex.indexer.readers import Fields
    from layerdex.indexer.readers.sources import read_all

    queries = []
    fields = Fields(text=text_field, label=UNSET, metadata=())
    for row in read_all([source], fields=fields):
        if isinstance(row, Rejected):
            raise RowError(str(row))
        queries.append((row.id, row.text))
    return queries


def collect_docstrings() -> Iterator[SourceDocument]:
    """Yield the docstrings of Python's standard library."""
    from layerdex.indexer import docstrings

    return docstrings.collect_docstrings()


def atomic_write(path: Path) -> AbstractContextManager[Path]:
    """Give a name to write to, so that ``path`` appears whole or not at all."""
    from layerdex.storage.files import atomic_write as write

    return write(path)


def export_format_of(path: Path) -> ExportFormat:
    """Return the format that a file's name stands for; raises `OptionError`."""
    from layerdex.indexer.writers.documents import format_of_name

    return format_of_name(path)


def is_index(path: Path) -> bool:
    """Say whether a directory holds an index."""
    from layerdex.storage.directory import CATALOG

    return (path / CATALOG).exists()


def find_folder(model: str | None) -> str | None:
    """Return the model if it is a folder, which may have moved since an index was made."""
    from layerdex.indexer.models.model_folder import to_folder

    return model if model is not None and to_folder(model).is_dir() else None


def check_settings(
    index: Index,
    options: EncoderOptions,
    *,
    layers: str | None,
    precision: StoredPrecision | None,
    query_template: str | None,
) -> None:
    """Raise `IndexMismatchError` for a setting, not None, that differs from the index's own."""
    from layerdex.indexer.models.compatibility import check_options

    store = index._open.store
    check_options(
        store.settings,
        store.layers,
        store.precision,
        options,
        stored_query_template=store.query_template,
        layers=layers,
        precision=precision,
        query_template=query_template,
    )


def discard_if_unused(index: Index) -> None:
    """Remove a new index to which nothing was committed; other files stay."""
    index._open.store.discard_if_unused()


def check_catalog(index: Index) -> None:
    """Check what is cheap to check of the catalog; raises `DamagedIndexError`."""
    index._open.store.check_catalog()


def find_damage(index: Index) -> str | None:
    """Return what the cheap checks of an index find damaged, None if they find nothing."""
    try:
        index._open.store.check_whole()
    except DamagedIndexError as error:
        return str(error)
    return None


def vector_bytes(index: Index, n_documents: int) -> int:
    """Return how many bytes of layer files the vectors of so many documents take."""
    store = index._open.store
    return n_documents * len(store.layers) * store.settings.width * store.codec.code_bytes


def count_targets(view: View) -> int:
    """Return at how many layers, or fusions of them, a view would answer a search."""
    opened, options = view._open, view._options
    return opened.store.query(lambda snapshot: len(options.spaces(opened, snapshot)))


def default_layer(index: Index) -> int:
    """Return the saved best layer of an index, else the deepest."""
    opened = index._open
    return opened.store.query(lambda snapshot: find_default_layer(opened, snapshot))
