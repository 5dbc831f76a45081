"""Training of an adapter on labelled texts, with early stopping on held-out texts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerdex.choices import Dtype, Loss, Pooling
from layerdex.errors import ModelError
from layerdex.indexer.engines.devices import CPU_TOKEN_BUDGET, choose_devices, choose_dtype
from layerdex.indexer.engines.protocol import make_batch
from layerdex.indexer.engines.torch.hidden_states import HiddenStates
from layerdex.indexer.engines.torch.pooling import pool
from layerdex.indexer.models.loading import (
    check_vocabulary,
    describe_tokenizer,
    load_model,
    load_tokenizer,
)
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.indexer.text.batches import plan_batches
from layerdex.indexer.text.tokenizer import TextTokenizer, Tokens
from layerdex.indexer.training.lora import Adapter
from layerdex.indexer.training.losses import CosineHead, SupervisedContrast
from layerdex.indexer.training.plan import Epoch, Plan, Trained
from layerdex.options import RuntimeOptions
from layerdex.records import EncoderSettings, OnProgress, Vectors

Judge = Callable[[Vectors, Vectors], float]
"""Takes vectors of training texts and of held-out texts; returns the accuracy on the latter."""

_GPU_TOKEN_BUDGET = 65_536
_WARM_UP_SHARE = 0.05
# AdamW's default; it hardly matters for weights as small as these.
_WEIGHT_DECAY = 0.01
_MAX_GRADIENT_NORM = 1.0  # steps beyond it are shortened, so that a rare batch does not undo many


class Trainer:
    """A model up to a layer, with an adapter to be trained on labelled texts."""

    def __init__(
        self,
        folder: ModelFolder,
        settings: EncoderSettings,
        *,
        layer: int,
        plan: Plan,
        runtime: RuntimeOptions,
    ) -> None:
        """Load the model of ``settings``. Raises `ModelError` and `OptionError`.

        Weights are float32, and passes run in the dtype of ``runtime``. Of several GPUs only the
        first is used.
        """
        self._folder, self._settings = folder, settings
        self._layer, self._plan = layer, plan
        self._device = choose_devices(runtime.device)[0]
        wanted = Dtype.AUTO if runtime.dtype is Dtype.INT8 else runtime.dtype
        is_half = choose_dtype(wanted, self._device) is Dtype.BFLOAT16
        self._autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=is_half)
        tokenizer = load_tokenizer(folder)
        self._module = load_model(folder, device=self._device, dtype=torch.float32)
        check_vocabulary(self._module, tokenizer, name=folder.name)
        spec = describe_tokenizer(tokenizer, self._module)
        self._tokenizer = TextTokenizer(
            spec,
            template=settings.template,
            max_length=settings.max_length,
            needs_mask=settings.pooling is Pooling.MASK,
        )
        self._pad_id = spec.pad_id
        self._is_gpu = self._device.type != "cpu"
        with _seeded(plan.seed, self._device):
            self._adapter = Adapter(
                self._module,
                layer=layer,
                depth=settings.depth,
                rank=plan.rank,
                dropout=plan.dropout,
            )
        self._module.to(self._device).eval()
        ids = torch.tensor([tokenizer("a probe")["input_ids"]], device=self._device)
        with torch.no_grad():
            probe = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            self._states = HiddenStates(self._module, probe)
        self._best = self._adapter.state()

    def train(
        self,
        texts: Sequence[str],
        codes: NDArray[np.int64],
        *,
        training: NDArray[np.int64],
        held_out: NDArray[np.int64],
        directions: Vectors,
        judge: Judge,
        on_progress: OnProgress | None = None,
    ) -> Trained:
        """Train on the texts with the indices ``training``; ``codes`` (n,) are all texts' labels.

        ``directions`` (n_labels, width) initialise a classification head. After each epoch
        ``judge`` returns the accuracy on the ``held_out`` texts; the weights of the best epoch are
        kept, of the first if several are equal. ``on_progress`` gets the number of texts seen, and
        the number for all epochs. Raises `ModelError` if the loss is not finite.
        """
        tokens = self._tokenizer.tokenize(texts)
        labels = torch.from_numpy(codes).to(self._device)
        loss_of = self._make_loss(directions)
        trained = [*self._adapter.parameters, *loss_of.parameters()]
        optimizer, schedule = self._make_optimizer(trained, len(training))
        epochs: list[Epoch] = []
        losses: list[float] = []
        random = np.random.default_rng(self._plan.seed)
        with _seeded(self._plan.seed, self._device):
            for number in range(1, self._plan.n_epochs + 1):
                seen = np.empty((len(texts), self._settings.width), dtype=np.float32)
                order = random.permutation(training)
                steps = np.array_split(order, max(len(order) // self._plan.batch_size, 1))
                self._module.train()
                done = (number - 1) * len(training)
                for indices in steps:
                    vectors, order_seen = self._embed(tokens, indices)
                    loss = loss_of(vectors, labels[torch.from_numpy(order_seen)])
                    losses.append(self._step(loss, trained, optimizer, schedule))
                    seen[order_seen] = vectors.detach().cpu().numpy()
                    done += len(indices)
                    if on_progress is not None:
                        on_progress(done, self._plan.n_epochs * len(training))
                # The training texts' vectors are those of the epoch itself: another pass would take
                # a third of its time, and they only serve to choose an epoch.
                accuracy = judge(seen[training], self._encode(tokens, held_out))
                epochs.append(Epoch(number, float(np.mean(losses[-len(steps) :])), accuracy))
                if self._is_over(epochs):
                    break
        return Trained(
            epochs=tuple(epochs),
            losses=tuple(losses),
            best_epoch=_best_of(epochs).number,
            n_trained=sum(parameter.numel() for parameter in trained),
            n_parameters=self._adapter.n_parameters
            + sum(parameter.numel() for parameter in loss_of.parameters()),
        )

    def write(self, target: Path) -> None:
        """Write the best epoch's adapter into the existing folder ``target``."""
        self._adapter.write(target, self._best, self._folder, self._settings)

    def _is_over(self, epochs: Sequence[Epoch]) -> bool:
        """Keep the weights if the last epoch is the best; return whether to stop."""
        best, last = _best_of(epochs).number, epochs[-1].number
        if best == last:
            self._best = self._adapter.state()
        return last - best >= self._plan.patience

    def _make_loss(self, directions: Vectors) -> nn.Module:
        if self._plan.loss is Loss.CONTRASTIVE:
            return SupervisedContrast()
        return CosineHead(torch.from_numpy(directions)).to(self._device)

    def _make_optimizer(self, trained: list[nn.Parameter], n_texts: int) -> tuple[Any, Any]:
        optimizer = torch.optim.AdamW(
            trained, lr=self._plan.learning_rate, weight_decay=_WEIGHT_DECAY
        )
        n_steps = max(n_texts // self._plan.batch_size, 1) * self._plan.n_epochs
        n_warm = max(int(n_steps * _WARM_UP_SHARE), 1)

        def rate(step: int) -> float:
            return min((step + 1) / n_warm, (n_steps - step) / max(n_steps - n_warm, 1))

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def _step(self, loss: Tensor, trained: list[nn.Parameter], optimizer: Any, rate: Any) -> float:
        value = loss.item()
        if not np.isfinite(value):
            raise ModelError("training diverged (the loss is not finite): lower --rate")
        optimizer.zero_grad()
        if loss.requires_grad:  # False if no two texts of the batch share a label
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, _MAX_GRADIENT_NORM)
        optimizer.step()
        rate.step()
        return value

    @torch.no_grad()
    def _encode(self, tokens: Tokens, indices: NDArray[np.int64]) -> Vectors:
        """Return unit vectors without dropout, (len(indices), width) float32."""
        self._module.eval()
        vectors = np.empty((len(tokens.ids), self._settings.width), dtype=np.float32)
        for group in np.array_split(indices, -(-len(indices) // 1_024)):
            embedded, order = self._embed(tokens, group)
            vectors[order] = embedded.cpu().numpy()
        return vectors[indices]

    def _embed(
        self, tokens: Tokens, indices: NDArray[np.int64]
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """Return unit vectors (n, width) and the indices they are of, ordered by length."""
        budget = _GPU_TOKEN_BUDGET if self._is_gpu else CPU_TOKEN_BUDGET
        vectors: list[Tensor] = []
        lengths = tokens.lengths[indices]
        plan = plan_batches(lengths, token_budget=budget, pads=self._settings.pads)
        groups = [indices[group] for group in plan]
        for group in groups:
            batch = make_batch(tokens, group, pad_id=self._pad_id)
            ids = torch.from_numpy(batch.ids).to(self._device)
            mask = torch.from_numpy(batch.mask).to(self._device)
            positions = batch.mask_positions
            at = None if positions is None else torch.from_numpy(positions).to(self._device)

            def receive(_layer: int, states: Tensor, mask: Tensor = mask, at: Any = at) -> None:
                vectors.append(pool(states, mask, self._settings.pooling, mask_positions=at))

            with self._autocast:
                self._states.run(
                    {"input_ids": ids, "attention_mask": mask}, (self._layer,), receive
                )
        return torch.cat(vectors), np.concatenate(groups)


def _best_of(epochs: Sequence[Epoch]) -> Epoch:
    return max(epochs, key=lambda epoch: epoch.accuracy)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Any:
    """Seed torch in the context, and restore the caller's random state after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
