"""Models on disk: finding and checking them, their defaults, fingerprints and adapters.

Imports `text`. Only `loading` imports torch and transformers. Start reading at `model_folder`.
"""
