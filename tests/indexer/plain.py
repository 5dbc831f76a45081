"""What plain transformers and NumPy say: the expected values of the encoder's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.torch.engine import TorchEngine


def torch_engine(encoder: TransformerEncoder) -> TorchEngine:
    """Return the engine of an encoder that was asked for torch."""
    assert isinstance(encoder.engine, TorchEngine)
    return encoder.engine


Floats = NDArray[np.float64]

logging.disable_progress_bar()
# On matrices this small, waiting for a second thread costs more than it brings.
torch.set_num_threads(1)


def load_plain(folder: Path) -> Any:
    """Load the model with eager attention in float32, whatever its files say."""
    return AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, local_files_only=True
    ).eval()


def plain_ids(tokenizer: Any, text: str, *, max_length: int) -> list[int]:
    """Tokenise the whole text and cut it as the tokenizer itself does."""
    ids: list[int] = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
    return ids


def plain_vectors(
    folder: Path, texts: Sequence[str], *, pooling: str = "mean", max_length: int
) -> Floats:
    """Pool ``hidden_states``, one text at a time, to (depth + 1, n, width) unit vectors."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = [plain_ids(tokenizer, text, max_length=max_length) for text in texts]
    return vectors_of_ids(load_plain(folder), ids, POOLINGS[pooling])


def vectors_of_ids(
    model: Any, ids: Iterable[Sequence[int]], pooling: Callable[[Floats], Floats]
) -> Floats:
    """Run token ids one text at a time and pool each layer's (n_tokens, width) states."""
    pooled = []
    for one in ids:
        inputs = torch.tensor([list(one)])
        with torch.no_grad():
            output = model(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                output_hidden_states=True,
            )
        pooled.append([pooling(states[0].double().numpy()) for states in output.hidden_states])
    return unit(np.array(pooled).transpose(1, 0, 2))


def unit(vectors: NDArray[Any]) -> Floats:
    """Scale to unit length in float64."""
    exact = vectors.astype(np.float64)
    lengths: Floats = np.linalg.norm(exact, axis=-1, keepdims=True)
    return exact / lengths


def cosines(left: NDArray[Any], right: NDArray[Any]) -> Floats:
    """Cosine of each pair of vectors along the last axis."""
    both: Floats = (unit(left) * unit(right)).sum(axis=-1)
    return both


@contextmanager
def calls_of(class_name: str) -> Iterator[list[tuple[int, ...]]]:
    """Collect the shape of the first tensor in each finished forward of modules of a class."""
    shapes: list[tuple[int, ...]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        if type(module).__name__ == class_name:
            first = next(iter([*args, *kwargs.values()]))
            shapes.append(tuple(first.shape))

    handle = nn.modules.module.register_module_forward_hook(note, with_kwargs=True)
    try:
        yield shapes
    finally:
        handle.remove()


POOLINGS: dict[str, Callable[[Floats], Floats]] = {
    "mean": lambda states: states.mean(axis=0),
    "cls": lambda states: states[0],
    "max": lambda states: states.max(axis=0),
}


@dataclass(frozen=True)
class Window:
    """Some consecutive tokens of a text, between the special ones."""

    ids: list[int]
    n_tokens: int


def plain_windows(tokenizer: Any, text: str, *, max_length: int) -> list[Window]:
    """Slide over the tokens of the whole text; each window begins at a word where one begins."""
    whole = tokenizer(text, add_special_tokens=False)
    ids, words = whole["input_ids"], whole.word_ids()
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    room = max_length - 2
    start, windows = 0, []
    while True:
        stop = min(start + room, len(ids))
        windows.append(Window([first, *ids[start:stop], last], stop - start))
        if stop == len(ids):
            return windows
        shared = range(stop - room // 8, stop)
        begins = [i for i in shared if words[i] != words[i - 1]]
        start = [*begins, *shared, stop][0]
