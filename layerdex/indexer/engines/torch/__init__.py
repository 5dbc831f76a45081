"""The torch engine: any model on a CPU or on several GPUs, with or without padding.

Imports `engines` (protocol, devices) and `models`. Start reading at `engine`, then `replica` for
one device, `hidden_states` for the layers, and `packing` for batches without padding.
"""
