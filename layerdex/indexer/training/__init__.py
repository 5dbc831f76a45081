"""Training of LoRA adapters on labelled texts.

Imports `engines`, `models` and `text`; `plan` alone imports no torch. Start reading at `trainer`.
"""
