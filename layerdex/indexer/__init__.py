"""Texts to vectors: readers, models, templates, the encoder and the pipeline."""
