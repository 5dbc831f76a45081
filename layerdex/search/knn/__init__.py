"""Exact nearest neighbours by cosine, and what follows directly from them.

``neighbors`` finds the k nearest documents of queries, ``close_pairs`` all pairs above a
similarity, ``voting`` lets neighbours vote for a label, ``rank_fusion`` merges rankings, and
``random_pairs`` tells which similarities are chance. A `VectorSpace` knows the vectors that a
target compares. Start with ``neighbors``. May import `search.vectors` and `search.targets`, and
from storage the snapshot and `storage.vectors`.
"""
