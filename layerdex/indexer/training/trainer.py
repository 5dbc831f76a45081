"""Training an adapter: batches of texts through the cut encoder, until held-out texts say stop."""

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
from layerdex.indexer.models.loading import describe_tokenizer, load_model, load_tokenizer
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.indexer.text.batches import plan_batches
from layerdex.indexer.text.tokenizer import TextTokenizer, Tokens
from layerdex.indexer.training.lora import Adapter
from layerdex.indexer.training.losses import CosineHead, SupervisedContrast
from layerdex.indexer.training.plan import Epoch, Plan, Trained
from layerdex.options import RuntimeOptions
from layerdex.records import EncoderSettings, OnProgress, Vectors

Judge = Callable[[Vectors, Vectors], float]
"""The accuracy on held-out texts' vectors, given those of the training texts."""

_GPU_TOKEN_BUDGET = 65_536
_WARM_UP_SHARE = 0.05
# As AdamW's default; directions and adapters are small, and it hardly matters here.
_WEIGHT_DECAY = 0.01
_MOST_GRADIENT = 1.0  # beyond this norm a step is shortened: a rare batch may not undo many


class Trainer:
    """A model cut at a layer, with an adapter to be trained on labelled texts."""

    def __init__(
        self,
        folder: ModelFolder,
        settings: EncoderSettings,
        *,
        layer: int,
        plan: Plan,
        runtime: RuntimeOptions,
    ) -> None:
        """Load the model that ``settings`` are of. Raises `ModelError` and `OptionError`.

        Weights stay in float32, and a pass may run in bfloat16. Of several GPUs one is used.
        """
        self._folder, self._settings = folder, settings
        self._layer, self._plan = layer, plan
        self._device = choose_devices(runtime.device)[0]
        is_half = choose_dtype(runtime.dtype, self._device) is Dtype.BFLOAT16
        self._autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=is_half)
        tokenizer = load_tokenizer(folder)
        spec = describe_tokenizer(tokenizer)
        self._tokenizer = TextTokenizer(
            spec,
            template=settings.template,
            max_length=settings.max_length,
            needs_mask=settings.pooling is Pooling.MASK,
        )
        self._pad_id = spec.pad_id
        self._is_gpu = self._device.type != "cpu"
        self._module = load_model(folder, device=self._device, dtype=torch.float32)
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
        """Train on the texts at the places ``training``, ``codes`` (n,) being all texts' labels.

        ``directions`` (n_labels, width) are where a classification head begins. The weights after
        the epoch whose ``held_out`` texts ``judge`` liked best are kept, the first of equals.
        ``on_progress`` is told of texts. Raises `ModelError` where the loss is no longer a number.
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
                for places in steps:
                    vectors, shown = self._embed(tokens, places)
                    loss = loss_of(vectors, labels[torch.from_numpy(shown)])
                    losses.append(self._step(loss, trained, optimizer, schedule))
                    seen[shown] = vectors.detach().cpu().numpy()
                    done += len(places)
                    if on_progress is not None:
                        on_progress(done, self._plan.n_epochs * len(training))
                # The training texts' vectors as the epoch saw them: another pass would take a
                # third as long again, and they serve only to choose an epoch.
                accuracy = judge(seen[training], self._encode(tokens, held_out))
                epochs.append(Epoch(number, float(np.mean(losses[-len(steps) :])), accuracy))
                if self._is_over(epochs):
                    break
        return Trained(
            epochs=tuple(epochs),
            losses=tuple(losses),
            best_epoch=_best_of(epochs).number,
            n_trained=sum(one.numel() for one in trained),
            n_parameters=self._adapter.n_parameters
            + sum(one.numel() for one in loss_of.parameters()),
        )

    def write(self, target: Path) -> None:
        """Write the best epoch's adapter into the folder ``target``, which is there."""
        self._adapter.write(target, self._best, self._folder, self._settings)

    def _is_over(self, epochs: Sequence[Epoch]) -> bool:
        """Keep the weights if the last epoch was the best, and say whether to stop early."""
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
            raise ModelError("training lost its way (the loss is not finite): lower --rate")
        optimizer.zero_grad()
        if loss.requires_grad:  # not where no two texts of a batch share a label
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, _MOST_GRADIENT)
        optimizer.step()
        rate.step()
        return value

    @torch.no_grad()
    def _encode(self, tokens: Tokens, places: NDArray[np.int64]) -> Vectors:
        """Return unit vectors, (len(places), width) float32, without dropout."""
        self._module.eval()
        vectors = np.empty((len(tokens.ids), self._settings.width), dtype=np.float32)
        for part in np.array_split(places, -(-len(places) // 1_024)):
            found, shown = self._embed(tokens, part)
            vectors[shown] = found.cpu().numpy()
        return vectors[places]

    def _embed(self, tokens: Tokens, places: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
        """Return unit vectors (n, width) and the places they are of, ordered by length."""
        budget = _GPU_TOKEN_BUDGET if self._is_gpu else CPU_TOKEN_BUDGET
        vectors: list[Tensor] = []
        parts = [places[one] for one in plan_batches(tokens.lengths[places], token_budget=budget)]
        for part in parts:
            batch = make_batch(tokens, part, pad_id=self._pad_id)
            ids, mask = (torch.from_numpy(one).to(self._device) for one in (batch.ids, batch.mask))
            positions = batch.mask_positions
            at = None if positions is None else torch.from_numpy(positions).to(self._device)

            def receive(_layer: int, states: Tensor, mask: Tensor = mask, at: Any = at) -> None:
                vectors.append(pool(states, mask, self._settings.pooling, mask_positions=at))

            with self._autocast:
                self._states.run(
                    {"input_ids": ids, "attention_mask": mask}, (self._layer,), receive
                )
        return torch.cat(vectors), np.concatenate(parts)


def _best_of(epochs: Sequence[Epoch]) -> Epoch:
    return max(epochs, key=lambda epoch: epoch.accuracy)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Any:
    """Draw from a seed within, and leave the caller's own random numbers alone."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
