"""Files that commands read and write: sources, queries, documents, pictures.

Names of other rooms, which the command line does not import; nothing here is loaded with `Index`.
"""

from layerdex.index.vectors import ids_beside
from layerdex.indexer.docstrings import collect_docstrings
from layerdex.indexer.readers import Dialect, Fields, check_sources
from layerdex.indexer.readers.input_rows import InputTable, read_input
from layerdex.indexer.readers.reviews import read_review
from layerdex.indexer.readers.sources import read_ids, read_queries
from layerdex.indexer.writers.documents import format_of_name, resolve_export_format
from layerdex.indexer.writers.tables import table_format, write_table
from layerdex.storage.files import atomic_write

__all__ = [
    "Dialect",
    "Fields",
    "InputTable",
    "atomic_write",
    "check_sources",
    "collect_docstrings",
    "format_of_name",
    "ids_beside",
    "read_ids",
    "read_input",
    "read_queries",
    "read_review",
    "resolve_export_format",
    "table_format",
    "write_table",
]
