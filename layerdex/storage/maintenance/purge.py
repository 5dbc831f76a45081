"""Removing what is not in an index any more from every byte of its directory."""

from __future__ import annotations

import logging

from layerdex.errors import StorageError
from layerdex.records import OnProgress
from layerdex.storage.approximates import remove_with_dead
from layerdex.storage.artifacts import APPROXIMATES
from layerdex.storage.catalog.engine import remove_unfinished
from layerdex.storage.directory import CATALOG
from layerdex.storage.files import sync_folder
from layerdex.storage.maintenance.compaction import drop_dead
from layerdex.storage.store import Store
from layerdex.storage.writer import Writer

logger = logging.getLogger(__name__)


def purge(
    store: Store, writer: Writer, *, timeout_s: float, on_progress: OnProgress | None = None
) -> int:
    """Remove all bytes of deleted documents and of replaced values, and return how many versions.

    The segments that have some are rewritten without them, then the catalog. At the end SQLite's
    log is emptied, for which open questions must end: raises `StorageError` if one is still open
    after ``timeout_s``. Head and transforms stay (see `traces`); approximate indexes with vectors
    of removed documents go, which is logged. What a file system keeps of removed files is out of
    reach.
    """
    n_dropped = drop_dead(store, writer, on_progress=on_progress)
    with store.read() as snapshot:
        removed = remove_with_dead(snapshot, writer)
    for record in removed:
        logger.warning(
            "the approximate index of layer %s had vectors of removed documents, and is removed, "
            "too: run '%s' to build it again",
            record["layer"],
            APPROXIMATES.remedy(str(store.path), record=record),
        )
    writer.vacuum()
    with writer.changing_files() as folder:
        remove_unfinished(folder.parent / CATALOG)  # a copy that a killed migration left
        sync_folder(folder)  # a power loss must not bring back what was unlinked
        sync_folder(folder.parent)
    if not writer.empty_log(timeout_s=timeout_s):
        raise StorageError(
            f"they are deleted, but {CATALOG} and its log still have bytes of them, as a question "
            f"to {store.path} is still open, here or in another process (waited {timeout_s:g} s): "
            f"end it, then run 'layerdex delete {store.path} --purge'"
        )
    return n_dropped
