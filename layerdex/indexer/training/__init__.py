"""Training of few parameters: a LoRA adapter for the encoder, cut at a layer."""
