"""Vectors computed from stored ones as they are read, and their similarity.

`FusedVectors`, `TransformedVectors` and `InMemoryVectors` are each a `VectorSource`, as a stored
layer is, so that every question can be asked of any of them. Start with ``fusion``. May import
`storage.vectors`, and nothing else of `search`.
"""
