"""Tiny seeded models of each supported family, saved as a user would have them: a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

N_POSITIONS = 40
"""The most tokens a text may have in every tiny model, special ones included."""

WIDTH = 32
DEPTH = 4

_VOCABULARY = (
    "a the cat dog sat on mat battery died after one week phone screen is bright and sharp "
    "i love this hate that cable broke refund please good bad price low high fast slow river "
    "bank money water stone tree green blue question answer what who where probe of layers"
)
WORDS = _VOCABULARY.split()

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()[]{}<>/"


@dataclass(frozen=True)
class Family:
    """How to build one family; ``block`` is the class name of its encoder blocks.

    ``packs`` says whether transformers lets its attention be replaced, so that it can be run
    without padding. ``sizes`` are given where the usual names are not the family's.
    """

    model_type: str
    block: str
    tokenizer: Callable[[], tuple[Tokenizer, dict[str, str]]]
    config: dict[str, Any] = field(default_factory=dict)
    packs: bool = True
    sizes: dict[str, Any] | None = None


def sentence(n_words: int, *, seed: int) -> str:
    """Return a text of known words, with a comma here and there."""
    rng = np.random.default_rng(seed)
    words = [str(word) for word in rng.choice(WORDS, size=n_words)]
    return " ".join(word + "," if rng.random() < 0.1 else word for word in words)


def save_tiny_model(family: str, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Build a tiny model of a family from ``FAMILIES`` and its tokenizer, and save both."""
    import torch
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    recipe = (FAMILIES | UNPADDED | OTHER_FAMILIES)[family]
    tokenizer, special = recipe.tokenizer()
    settings = {"pad_token_id": tokenizer.token_to_id(special["pad_token"])}
    settings |= (_SIZES if recipe.sizes is None else recipe.sizes) | recipe.config | changes
    config = AutoConfig.for_model(
        recipe.model_type, vocab_size=tokenizer.get_vocab_size(), **settings
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config).eval()
        for name, parameter in model.named_parameters():
            # Larger than the usual 0.02, so that each layer really turns its vectors.
            noise = torch.randn_like(parameter) * 0.2
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            parameter.data.copy_(noise + 1 if is_scale else noise)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def change_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file that is an object, or make one."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **changes}))


def drop_weight(folder: Path, name: str) -> None:
    """Remove one tensor from a saved model."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _word_piece(names: dict[str, str]) -> tuple[Tokenizer, dict[str, str]]:
    # The ids of the special tokens are the family's: the order they are given in.
    tokens = [*names.values(), *_LETTERS, *(f"##{one}" for one in _LETTERS), *WORDS, "##s", "##ing"]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token=names["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _finish(tokenizer, names)


def _byte_level(names: dict[str, str]) -> tuple[Tokenizer, dict[str, str]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        show_progress=False,
        special_tokens=list(names.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator([sentence(12, seed=i) + " a" for i in range(200)], trainer)
    return _finish(tokenizer, names)


def _unigram(names: dict[str, str]) -> tuple[Tokenizer, dict[str, str]]:
    pieces = [(token, 0.0) for token in names.values()]
    pieces += [(f"▁{word}", -5.0) for word in WORDS if len(word) > 1]
    pieces += [("▁", -4.0), ("▁a", -5.0), *((one, -9.0) for one in _LETTERS)]
    unknown = list(names.values()).index(names["unk_token"])
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    return _finish(tokenizer, names)


def _finish(tokenizer: Tokenizer, names: dict[str, str]) -> tuple[Tokenizer, dict[str, str]]:
    first, last = names["cls_token"], names["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(one, tokenizer.token_to_id(one)) for one in (first, last)],
    )
    return tokenizer, names


_SIZES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": N_POSITIONS,
}
_BERT = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROBERTA = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
# RoBERTa, XLM-RoBERTa and MPNet count positions from padding_idx + 1 = 2.
_OFFSET = {"max_position_embeddings": N_POSITIONS + 2, "bos_token_id": 0, "eos_token_id": 2}
_ALBERT = {"embedding_size": 16}

FAMILIES = {
    "bert": Family("bert", "BertLayer", lambda: _word_piece(_BERT)),
    "roberta": Family("roberta", "RobertaLayer", lambda: _byte_level(_ROBERTA), _OFFSET),
    "distilbert": Family("distilbert", "TransformerBlock", lambda: _word_piece(_BERT)),
    "mpnet": Family(
        "mpnet",
        "MPNetLayer",
        lambda: _word_piece({**_ROBERTA, "unk_token": "[UNK]"}),
        _OFFSET,
        packs=False,
    ),
    "electra": Family(
        "electra", "ElectraLayer", lambda: _word_piece(_BERT), {"embedding_size": 16}
    ),
    "albert": Family("albert", "AlbertLayer", lambda: _unigram(_BERT), _ALBERT),
    "albert-grouped": Family(
        "albert",
        "AlbertLayer",
        lambda: _unigram(_BERT),
        {**_ALBERT, "num_hidden_layers": 2, "num_hidden_groups": 2, "inner_group_num": 2},
    ),
    "xlm-roberta": Family("xlm-roberta", "XLMRobertaLayer", lambda: _unigram(_ROBERTA), _OFFSET),
    "modernbert": Family(
        "modernbert",
        "ModernBertEncoderLayer",
        lambda: _byte_level(_BERT),
        {
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
}
"""Every family is 4 blocks deep and 32 wide; the grouped ALBERT runs 2 groups of 2 blocks."""

UNPADDED = {
    "fnet": Family("fnet", "FNetLayer", lambda: _word_piece(_BERT)),
    "mobilebert": Family(
        "mobilebert",
        "MobileBertLayer",
        lambda: _word_piece(_BERT),
        {
            "embedding_size": WIDTH,
            "intra_bottleneck_size": WIDTH,
            "true_hidden_size": WIDTH,
            "num_feedforward_networks": 1,
        },
    ),
    "convbert": Family(
        "convbert", "ConvBertLayer", lambda: _word_piece(_BERT), {"embedding_size": WIDTH}
    ),
    "yoso": Family("yoso", "YosoLayer", lambda: _word_piece(_BERT)),
}
"""Families whose vectors depend on how far a text is padded."""


def _other(model_type: str, **config: Any) -> Family:
    return Family(model_type, "", lambda: _word_piece(_BERT), config, packs=False)


OTHER_FAMILIES = {
    "xlnet": Family(
        "xlnet",
        "",
        lambda: _word_piece(_BERT),
        packs=False,
        sizes={"d_model": WIDTH, "n_layer": DEPTH, "n_head": 4, "d_inner": 48},
    ),
    # Their tables of positions are not as long as there are positions.
    "yoso": _other("yoso"),
    "ibert": _other("ibert", max_position_embeddings=N_POSITIONS + 1),
    # They cannot be run on texts alone, or not on texts of every length.
    "nystromformer": _other("nystromformer", segment_means_seq_len=N_POSITIONS, num_landmarks=8),
    "lilt": _other("lilt"),
    "vit": _other("vit", image_size=8, patch_size=4),
    "perceiver": _other("perceiver", d_model=16, d_latents=16, num_latents=4),
}
"""Families at the border of what is supported; ``block`` is not given for them."""
