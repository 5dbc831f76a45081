"""Documents and vectors to jsonl and parquet files that `readers` can read again.

Imports `readers` (the names of fields) and `storage` (batches of an export). Start reading at
`documents`.
"""
