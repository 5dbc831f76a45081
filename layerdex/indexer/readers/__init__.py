"""Sources to documents: one file per format, and the rules for fields and values.

Imports only the library's base modules, and `storage.directory` to recognise an index in a folder.
Start reading at `sources`, then `rows` for what becomes of a row.
"""

from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.formats import check_sources
from layerdex.indexer.readers.frames import read_frame
from layerdex.indexer.readers.mappings import read_mappings
from layerdex.indexer.readers.read import read_source
from layerdex.indexer.readers.rows import Reading

__all__ = [
    "Dialect",
    "Fields",
    "Reading",
    "check_sources",
    "read_frame",
    "read_mappings",
    "read_source",
]
