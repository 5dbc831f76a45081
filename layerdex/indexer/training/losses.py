"""Losses on unit vectors and their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

# Usually 0.05 to 0.1 for cosines.
TEMPERATURE = 0.05


class CosineHead(nn.Module):
    """One direction per label; the loss is the cross-entropy of the cosines to them."""

    def __init__(self, directions: Tensor) -> None:
        """Start with ``directions`` (n_labels, width) float32, such as the labels' means."""
        super().__init__()
        self.directions = nn.Parameter(directions.clone())

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of unit vectors (n, width) with labels (n,) int64."""
        cosines = vectors @ functional.normalize(self.directions, dim=1).T  # (n, n_labels)
        return functional.cross_entropy(cosines / TEMPERATURE, labels)


class SupervisedContrast(nn.Module):
    """The supervised contrastive loss of a batch; see `Loss.CONTRASTIVE`."""

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of unit vectors (n, width) with labels (n,) int64.

        A text whose label is unique in the batch only repels others; 0 if all labels are unique.
        """
        itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
        similarities = (vectors @ vectors.T / TEMPERATURE).masked_fill(itself, -torch.inf)
        log_shares = similarities - similarities.logsumexp(dim=1, keepdim=True)
        positive = (labels[:, None] == labels) & ~itself
        n_positive = positive.sum(dim=1)
        per_text = log_shares.masked_fill(~positive, 0.0).sum(dim=1) / n_positive.clamp(min=1)
        return -per_text.sum() / (n_positive > 0).sum().clamp(min=1)
