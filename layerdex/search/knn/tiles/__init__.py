"""Exact comparisons of many vectors with many, by tiles of short codes.

A vector becomes a short code whose products are never below the similarity, up to a certified
margin. A tile of such products is one small matrix product; only what a tile cannot rule out is
computed in full, in float64. ``docs/tiles.md`` derives the margin.

``codes`` makes the codes and picks their length, ``arithmetic`` multiplies them in float32,
bfloat16 or int8, ``tile`` finds what a tile cannot rule out, ``vectors`` computes it in full.
``nearest`` finds the neighbours of queries that way, ``others`` those of each document among the
others (``best`` keeps both), ``pairs`` all pairs above a similarity, and ``kept`` those that greedy
deduplication keeps. ``device`` does all of that on a GPU, which ``asked_device`` names. May import
`search.vectors` and `storage.vectors`.
"""
