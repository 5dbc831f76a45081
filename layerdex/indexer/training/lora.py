"""A LoRA adapter on the encoder's blocks up to a layer: put on, counted, written."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from layerdex.errors import ModelError
from layerdex.indexer.engines.torch.hidden_states import find_blocks
from layerdex.indexer.models.adapters import ABOUT, WEIGHTS, import_peft
from layerdex.indexer.models.fingerprint import model_digest
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.records import EncoderSettings


class Adapter:
    """LoRA on every linear map of the blocks 1 to ``layer``; all else is frozen."""

    def __init__(
        self, module: nn.Module, *, layer: int, depth: int, rank: int, dropout: float
    ) -> None:
        """Put the adapter on ``module``, in place; its change begins at zero.

        Raises `ModelError` for a model without blocks of linear maps, `MissingPackageError`.
        """
        peft = import_peft()
        self._peft = peft
        blocks = find_blocks(module)
        # Shared blocks run at several depths, and are trained whole.
        self._used = blocks[:layer] if len(blocks) == depth else blocks
        self._module = module
        names = _linear_names(module, self._used)
        if not names:
            raise ModelError("the model's blocks have no linear maps that could be adapted")
        config = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=names, bias="none"
        )
        self._unused = blocks[len(self._used) :]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks transformers for what that renamed
            self._adapted = peft.get_peft_model(module, config)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [one for one in self._module.parameters() if one.requires_grad]

    @property
    def n_parameters(self) -> int:
        """Parameters of the encoder up to the layer, the adapter's included, no pooler."""
        unused = {id(one) for block in self._unused for one in block.parameters()}
        return sum(
            one.numel()
            for name, one in self._module.named_parameters()
            if id(one) not in unused and "pooler" not in name
        )

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the adapter's weights, on the CPU, as peft names them."""
        # No embeddings: to see whether they were resized, peft would ask the hub for the model.
        state = self._peft.get_peft_model_state_dict(self._adapted, save_embedding_layers=False)
        return {name: one.detach().to("cpu", copy=True).contiguous() for name, one in state.items()}

    def write(
        self, target: Path, state: dict[str, Tensor], base: ModelFolder, settings: EncoderSettings
    ) -> None:
        """Write the adapter with weights ``state`` into the folder ``target``, which is there."""
        from safetensors.torch import save

        config = self._adapted.peft_config["default"]
        config.inference_mode = True
        config.base_model_name_or_path = base.name
        config.save_pretrained(str(target))
        # Not save_file, whose files nobody else may read.
        (target / WEIGHTS).write_bytes(save(state, metadata={"format": "pt"}))
        about: dict[str, Any] = {
            "base_digest": model_digest(base.path),
            "base": base.name,
            "pooling": settings.pooling.value,
            "template": settings.template,
            "max_length": settings.max_length,
        }
        (target / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _linear_names(module: nn.Module, blocks: list[nn.Module]) -> list[str]:
    inside = {id(part) for block in blocks for part in block.modules()}
    return sorted(
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and id(part) in inside
    )
