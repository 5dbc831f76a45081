"""The cache of what is made from models: digests, converted graphs, verdicts. Deleting it is safe.

What it holds decides vectors, so everything has a checksum: a JSON file its own (`sealed_json`),
any other file in the manifest of its folder (`manifest`). What does not agree is made again.
"""
