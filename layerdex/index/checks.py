"""What commands ask of an index besides its questions, such as whether it is whole.

Also the types of results that they print and that no other module of the facade has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError, OptionError
from layerdex.index import documents
from layerdex.index.heads import labels_without_documents, load_head
from layerdex.index.similar_labels import find_misspelt, group_similar
from layerdex.index.source_options import resolve_test_fields
from layerdex.index.target_options import default_layer as find_default_layer
from layerdex.options import EncoderOptions
from layerdex.search.filters import Expressions, parse_where
from layerdex.storage.catalog.source_fields import read_source_fields

if TYPE_CHECKING:
    from layerdex.index.facade import Index
    from layerdex.index.view import View
    from layerdex.indexer.pipeline.pipeline import BuildReport
    from layerdex.indexer.readers.fields import Fields
    from layerdex.storage.maintenance.info import IndexInfo
    from layerdex.storage.maintenance.verify import Problem
    from layerdex.storage.snapshot import Snapshot

__all__ = [
    "BuildReport",
    "IndexInfo",
    "Problem",
    "check_catalog",
    "check_settings",
    "count_targets",
    "default_layer",
    "discard_if_unused",
    "fields_of_test_set",
    "find_damage",
    "find_fields",
    "find_folder",
    "find_unnamed_fields",
    "has_single_label",
    "has_torn_seal",
    "head_labels",
    "ids_to_delete",
    "is_index",
    "known_labels",
    "misspelt_labels",
    "similar_labels",
    "source_names",
    "vanished_head_labels",
    "vector_bytes",
]

_N_NAMED = 10


def is_index(path: Path) -> bool:
    """Say whether a directory holds an index."""
    from layerdex.storage import directory

    return directory.is_index(path)


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


def has_torn_seal(index: Index) -> bool:
    """Say whether the file with the catalog's checksum is not one."""
    from layerdex.storage.catalog.seal import is_torn
    from layerdex.storage.directory import CATALOG

    return is_torn(index.path / CATALOG)


def source_names(index: Index) -> dict[str, str]:
    """Return the names of text, id and label in the sources of an index, as far as it knows."""
    fields = index._open.store.query(lambda snapshot: read_source_fields(snapshot.connection))
    names = {} if fields is None else {"text": fields.text, "id": fields.id, "label": fields.label}
    return {part: names.get(part) or part for part in ("text", "id", "label")}


def fields_of_test_set(index: Index, *, by: str = "label", **names: Any) -> Fields:
    """Return the fields of a test set: those that are named, else those that the index stored."""
    return resolve_test_fields(index._open.store, by=by, **names)


def find_unnamed_fields(index: Index) -> list[str]:
    """Return the metadata fields of an index whose documents have neither ids nor labels."""

    def question(snapshot: Snapshot) -> list[str]:
        fields = read_source_fields(snapshot.connection)
        if fields is None or fields.id or fields.label:
            return []
        return list(snapshot.metadata_types())

    return index._open.store.query(question)


def ids_to_delete(
    index: Index, ids: Sequence[str], *, where: Expressions = None, missing_ok: bool = False
) -> list[str]:
    """Return the ids of the documents that `Index.delete` would delete, each once."""
    return documents.find_ids(index._open, ids, where=parse_where(where), missing_ok=missing_ok)


def vector_bytes(index: Index, n_documents: int) -> int:
    """Return how many bytes of layer files the vectors of so many documents take."""
    store = index._open.store
    return n_documents * len(store.layers) * store.settings.width * store.codec.code_bytes


def has_single_label(index: Index) -> bool:
    """Say whether there are labelled documents, and all have the same label."""
    return index._open.store.query(lambda snapshot: snapshot.has_single_label())


def least_sample(index: Index, min_per_label: int) -> int:
    """Return the size of the smallest sample of all labelled documents that `evaluate` takes."""
    import numpy as np

    from layerdex.search.evaluation.label_sample import least_of_each

    counts = index._open.store.query(lambda snapshot: snapshot.count_labels())
    n_of_label = np.array(list(counts.values()), np.int64)
    return int(least_of_each(n_of_label[n_of_label >= min_per_label]).sum())


def known_labels(view: View) -> frozenset[str]:
    """Return the labels that neighbours can predict: those of the documents of a view's target."""
    opened, where = view._index, view._options.where
    if not where:
        return frozenset(opened.store.query(lambda snapshot: snapshot.count_labels()))
    table = opened.store.query(lambda snapshot: snapshot.document_table(where, labelled=True))
    return frozenset(map(str, table.labels))


def head_labels(index: Index) -> frozenset[str]:
    """Return the labels that the stored head can predict; raises as `Index.classify_with_head`."""
    return frozenset(load_head(index._open).label_names)


def vanished_head_labels(index: Index) -> tuple[str, ...]:
    """Return the labels of the stored head that no document has any more."""
    return labels_without_documents(index._open)


def similar_labels(index: Index) -> list[tuple[str, ...]]:
    """Return the groups of labels of live documents that look alike; see `group_similar`."""
    return group_similar(index._open.store.query(lambda snapshot: snapshot.count_labels()))


def misspelt_labels(index: Index, labels: Iterable[str]) -> dict[str, str]:
    """Return which labels are close to one of live documents; see `find_misspelt`."""
    known = index._open.store.query(lambda snapshot: snapshot.count_labels())
    return find_misspelt([label for label in labels if label not in known], [*known])


def find_fields(index: Index, asked: Iterable[str]) -> tuple[str, ...]:
    """Return the metadata fields that are meant: names, several joined by commas, or ``all``.

    ``metadata.NAME`` is short for NAME unless a field is called so. Id, text and label, which are
    no metadata, are left out, also by the names that they have in the sources. Raises `OptionError`
    for a field that no document has.
    """
    names, parts = index._open.store.query(_read_names)
    found: dict[str, None] = {}
    for words in asked:
        for name in [words] if words in names else map(str.strip, words.split(",")):
            if name == "all":
                found |= dict.fromkeys(names)
            elif name in names or name not in parts:
                found[_find_field(name, names)] = None
    return tuple(found)


def _read_names(snapshot: Snapshot) -> tuple[list[str], set[str]]:
    """Return the metadata fields, and what the other parts of documents are called."""
    source = read_source_fields(snapshot.connection)
    named = set() if source is None else {source.text, *source.aliases}
    return list(snapshot.metadata_types()), {"id", "text", "label", *named}


def _find_field(name: str, names: list[str]) -> str:
    for known in (name, name.removeprefix("metadata.")):
        if known in names:
            return known
    if not names:
        raise OptionError(f"no document has the field {name!r}, or any other metadata field")
    if close := difflib.get_close_matches(name, names, 1):
        raise OptionError(f"no document has the field {name!r}: did you mean {close[0]!r}?")
    more = f" and {len(names) - _N_NAMED:,} more" if len(names) > _N_NAMED else ""
    raise OptionError(
        f"no document has the field {name!r}: there are {', '.join(names[:_N_NAMED])}{more}"
    )


def count_targets(view: View) -> int:
    """Return at how many layers, or fusions of them, a view would answer a search."""
    opened, options = view._index, view._options
    return opened.store.query(lambda snapshot: len(options.spaces(opened, snapshot)))


def default_layer(index: Index) -> int:
    """Return the saved best layer of an index, else the deepest."""
    opened = index._open
    return opened.store.query(lambda snapshot: find_default_layer(opened, snapshot))
