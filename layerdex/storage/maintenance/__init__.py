"""Operations on a whole index: verify, restore, compact, merge, back up, export, describe.

It may import everything else in ``storage``, and nothing in ``storage`` imports it.

Each operation is one file and takes an open `Store`; start with ``verify``. ``merge_policy``
decides which segments ``compaction`` merges after a run.
"""
