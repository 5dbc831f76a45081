"""Exact and near duplicates.

``greedy`` decides which documents stay at a threshold, ``threshold_sweep`` shows many thresholds
from one pass, and ``overlap`` finds documents of one index in another. Start with ``greedy``. May
import `search.knn`, `search.vectors` and `search.targets`, and from storage the snapshot and the
protocol of layer vectors.
"""
