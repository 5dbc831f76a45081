"""What labels are good for: finding wrong ones, and fitting classifiers.

``label_issues`` lists documents whose neighbours contradict their label, ``head`` and ``probe`` fit
linear classifiers, ``training_split`` divides documents to train an adapter. Start with ``probe``.
May import `search.evaluation`, `search.knn`, `search.vectors` and `search.targets`, and from
storage the snapshot and the protocol of layer vectors.
"""
