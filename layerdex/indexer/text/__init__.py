"""Texts to tokens: templates, truncation, chunks of long texts, and batches of similar length.

Imports only the library's base modules, so that tokenising needs no model. Start reading at
`tokenizer`.
"""
