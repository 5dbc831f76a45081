"""Everything that is on disk: the catalog, layer files, artifacts and the directory with them.

No other room knows paths, SQL or file formats. This room imports only ``errors``, ``choices``,
``records``, ``arguments`` and ``threads`` of the package. Inside it, imports only point down this
list:

- ``maintenance``, ``artifact_changes``: operations on an open index;
- ``store``: an open index, with ``queries`` to its newest commit and the one ``writer``;
- ``artifacts``, ``snapshot``, ``commit_cache``: reading one commit;
- ``catalog``: the SQL database;
- ``vectors``: segments and their layer files;
- ``directory``, ``files``: names, locks and durable writes.

Start with `store.Store`: ``read`` gives a `snapshot.Snapshot`, ``write`` a `writer.Writer`.
``docs/durability.md`` lists what the room promises, and the tests of each promise.
"""
