"""The OpenVINO engine: a graph converted from torch, cached on disk and compared with torch.

Imports `engines` (protocol, devices), `models`, and, for a conversion only, `engines.torch`. Start
reading at `engine`.
"""
