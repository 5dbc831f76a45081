"""A LoRA adapter on the encoder's blocks up to a layer."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from layerdex.errors import ModelError
from layerdex.indexer.engines.torch.hidden_states import find_blocks
from layerdex.indexer.models.adapters import TRAINING_FILE, WEIGHTS, import_peft
from layerdex.indexer.models.fingerprint import base_digest
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.records import EncoderSettings


class Adapter:
    """LoRA on every linear layer of blocks 1 to ``layer``; all other weights are frozen."""

    def __init__(
        self, module: nn.Module, *, layer: int, depth: int, rank: int, dropout: float
    ) -> None:
        """Add the adapter to ``module``, in place; at first it changes nothing.

        Raises `ModelError` for a model whose blocks have no linear layers, `MissingPackageError`.
        """
        peft = import_peft()
        self._peft = peft
        blocks = find_blocks(module)
        # Shared blocks run at several depths, so that all of them are trained.
        self._used = blocks[:layer] if len(blocks) == depth else blocks
        self._module = module
        names = _linear_names(module, self._used)
        if not names:
            raise ModelError("the model's blocks have no linear layers to adapt")
        config = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=names, bias="none"
        )
        self._unused = blocks[len(self._used) :]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names that transformers deprecated
            self._adapted = peft.get_peft_model(module, config)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The adapter's parameters."""
        return [parameter for parameter in self._module.parameters() if parameter.requires_grad]

    @property
    def n_parameters(self) -> int:
        """The number of parameters up to the layer, with the adapter, without the pooler."""
        unused = {id(parameter) for block in self._unused for parameter in block.parameters()}
        return sum(
            parameter.numel()
            for name, parameter in self._module.named_parameters()
            if id(parameter) not in unused and "pooler" not in name
        )

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the adapter's weights, on the CPU, as peft names them."""
        # Without embeddings: peft would look up the model on the hub to see if they were resized.
        state = self._peft.get_peft_model_state_dict(self._adapted, save_embedding_layers=False)
        return {
            name: weight.detach().to("cpu", copy=True).contiguous()
            for name, weight in state.items()
        }

    def write(
        self, target: Path, state: dict[str, Tensor], base: ModelFolder, settings: EncoderSettings
    ) -> None:
        """Write the adapter with weights ``state`` into the existing folder ``target``."""
        from safetensors.torch import save

        config = self._adapted.peft_config["default"]
        config.inference_mode = True
        config.base_model_name_or_path = base.name
        config.save_pretrained(str(target))
        # Not save_file, which makes files that only their owner may read.
        (target / WEIGHTS).write_bytes(save(state, metadata={"format": "pt"}))
        training: dict[str, Any] = {
            "base_digest": base_digest(base.contents),
            "base": base.name,
            "pooling": settings.pooling.value,
            "template": settings.template,
            "max_length": settings.max_length,
        }
        (target / TRAINING_FILE).write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")


def _linear_names(module: nn.Module, blocks: list[nn.Module]) -> list[str]:
    inner = {id(child) for block in blocks for child in block.modules()}
    return sorted(
        name
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear) and id(child) in inner
    )
