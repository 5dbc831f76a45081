"""Fitting transforms: on which documents, and with how much shrinkage.

``fit`` fits the transforms that an index stores, and those of an evaluation, which may see only
the documents that vote. What a transform does is in `search.vectors.transform`. May import
`search.evaluation`, `search.knn`, `search.vectors` and `search.targets`, and from storage the
snapshot and the protocol of layer vectors.
"""
