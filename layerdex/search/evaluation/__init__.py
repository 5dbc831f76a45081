"""How well each layer answers: scores with confidence intervals, and the best layer.

Labels that neighbours predict, judged queries and judged pairs of texts all give an `Evaluation`,
and two of these give a `Comparison` of two indexes. `Geometry` describes layers without labels.
Start with ``evaluation``, then ``classification``. May import `search.knn`, `search.vectors` and
`search.targets`, and from storage the snapshot and the protocol of layer vectors.
"""
