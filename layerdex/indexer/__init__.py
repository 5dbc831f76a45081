"""Texts to vectors: reading sources, loading models, encoding, and filling an index.

Imports `storage`, but neither `search` nor `index`. Nothing heavy is imported before a model is
loaded: torch, transformers and OpenVINO only by the engines.

- `readers`, `writers`: documents from and to files
- `text`: templates, tokens, chunks, and which texts share a batch
- `models`: finding and checking models, fingerprints
- `engines`: running a model on torch or OpenVINO; `engine_factory` chooses
- `encoder`: all of the above behind the `Encoder` protocol
- `pipeline`: a run, from documents to committed segments
- `training`: LoRA adapters

Start reading at `encoder` for vectors, at `pipeline.build` for a run.
"""
