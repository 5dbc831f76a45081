"""A run: documents to windows, windows through the encoder, segments committed in order.

Imports `storage` and `progress`; the encoder is passed in. Start reading at `build`, then
`pipeline`; `repair` rebuilds damaged layer files in the same way.
"""
