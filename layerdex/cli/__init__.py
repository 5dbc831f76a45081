"""The command line: options are parsed, one method of the index is called, its result is printed.

Only this room prints, exits, or catches `LayerdexError`. It imports `layerdex.index` and the files
of the lowest floor (`choices`, `options`, `errors`, ...), never `storage` or `indexer`,
and nothing heavy at the top of a file, so that help pages stay fast. Start reading at `main`, then
`context`, then any file of `commands`.
"""
