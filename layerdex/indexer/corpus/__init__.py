"""Sources to documents: the readers and the ids of a run."""

from layerdex.indexer.corpus.fields import Fields
from layerdex.indexer.corpus.formats import Format, check_sources
from layerdex.indexer.corpus.ids import RunIds, content_hash
from layerdex.indexer.corpus.mappings import read_frame, read_mappings
from layerdex.indexer.corpus.read import read_source
from layerdex.indexer.corpus.rows import Reading

__all__ = [
    "Fields",
    "Format",
    "Reading",
    "RunIds",
    "check_sources",
    "content_hash",
    "read_frame",
    "read_mappings",
    "read_source",
]
