"""The SQL catalog: documents, segments and settings, in SQLite.

Every row that is read is checked against its digest (``row_digests``, ``rows``), and the whole file
against its ``seal`` while no writer is at work. The caller owns the transaction: functions take a
connection. It may import ``storage.vectors`` (segments and precisions), ``storage.directory`` and
``storage.files``, but nothing above.

Start with ``schema`` (the tables), then ``rows`` (reading) and ``changes`` (what a commit writes);
``engine`` opens the database, ``revisions`` and ``upgrade`` migrate it.
"""
