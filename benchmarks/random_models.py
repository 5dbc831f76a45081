"""BERTs of known shapes with random weights, and texts of a known number of tokens for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_VOCABULARY_SIZE = 30_522
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_N_SPECIAL_PER_TEXT = 2
_MOST_TOKENS = 512


@dataclass(frozen=True)
class Shape:
    """The sizes of a BERT."""

    width: int
    depth: int
    n_heads: int
    intermediate: int

    @property
    def linear_operations_per_token(self) -> int:
        """Operations of all linear layers, two per multiply-add, without attention scores."""
        per_block = 4 * self.width**2 + 2 * self.width * self.intermediate
        return 2 * self.depth * per_block


SHAPES = {
    "bert-base": Shape(width=768, depth=12, n_heads=12, intermediate=3_072),
    "minilm": Shape(width=384, depth=6, n_heads=12, intermediate=1_536),
}


def save_random_model(shape: Shape, folder: Path, *, seed: int = 0) -> Path:
    """Save a seeded BERT of this shape, and a tokenizer that makes one token of each word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [*_SPECIAL, *(f"w{i}" for i in range(_VOCABULARY_SIZE - len(_SPECIAL)))]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name[1:-1].lower()}_token": name for name in _SPECIAL}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=_MOST_TOKENS, **names
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=_VOCABULARY_SIZE,
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.n_heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=_MOST_TOKENS,
    )
    torch.manual_seed(seed)
    BertModel(config).save_pretrained(folder)
    return folder


def make_texts(n_texts: int, *, n_tokens: int | None, seed: int = 0) -> list[str]:
    """Return different texts of ``n_tokens`` tokens, special tokens included.

    None means mixed lengths, as in real collections: log-normal with a median of 48, at most 512.
    """
    rng = np.random.default_rng(seed)
    if n_tokens is None:
        drawn = np.exp(rng.normal(np.log(48), 0.8, n_texts)).astype(int)
        lengths = np.clip(drawn, 4, _MOST_TOKENS)
    else:
        lengths = np.full(n_texts, n_tokens)
    n_words = _VOCABULARY_SIZE - len(_SPECIAL)
    return [
        " ".join(f"w{i}" for i in rng.integers(n_words, size=length - _N_SPECIAL_PER_TEXT))
        for length in lengths
    ]
