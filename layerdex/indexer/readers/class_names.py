"""The names of classes that Hugging Face datasets stores beside a parquet table.

A column of type ``ClassLabel`` holds numbers; their names are in the schema's metadata, under
``huggingface`` (https://huggingface.co/docs/datasets, "Features").
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from layerdex.indexer.readers.labels import shown

logger = logging.getLogger(__name__)

KEY = b"huggingface"
NO_CLASS = -1
"""What datasets writes where a test set hides its labels."""


def find_class_names(schema: Any, label: str | None, *, source: str) -> tuple[str, ...]:
    """Return the names of the classes 0, 1, ... of a label column, which is logged; () for none."""
    import pyarrow as pa

    if label not in schema.names or not pa.types.is_integer(schema.field(label).type):
        return ()
    names = _stored_names(schema, label)
    if names:
        logger.warning(
            "%s: labels are the names that the file has for the classes in %r (%s)",
            source,
            label,
            shown(names),
        )
    return names


def name_classes(batch: Any, label: str | None, names: Sequence[str]) -> Any:
    """Return a batch with names, if there are any, in place of the numbers of classes.

    -1 is null, and another number without a name is its digits.
    """
    import pyarrow as pa

    if not names:
        return batch
    cells = [
        None if n is None or n == NO_CLASS else names[n] if 0 <= n < len(names) else str(n)
        for n in batch.column(label).to_pylist()
    ]
    position = batch.schema.get_field_index(label)
    return batch.set_column(position, label, pa.array(cells, pa.string()))


def _stored_names(schema: Any, label: str | None) -> tuple[str, ...]:
    try:
        stored = json.loads((schema.metadata or {})[KEY])
        names = stored["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    are_labels = all(map(str.strip, names)) and len({*names}) == len(names)
    return tuple(names) if are_labels else ()
