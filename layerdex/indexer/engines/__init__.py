"""Engines run batches of tokens through a model and pool every chosen layer.

This package itself has the protocol and the choice of devices; `torch` and `openvino` implement the
protocol, and `indexer.engine_factory` chooses between them. Imports `text`. Start reading at
`protocol`.
"""
