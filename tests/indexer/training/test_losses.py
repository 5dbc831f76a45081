"""The losses, against their definitions written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from layerdex.indexer.training.losses import TEMPERATURE, CosineHead, SupervisedContrast


def unit(n: int, *, seed: int, width: int = 6) -> NDArray[np.float64]:
    vectors = np.random.default_rng(seed).normal(size=(n, width))
    lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths)


def test_the_head_is_a_cosine_classifier() -> None:
    vectors, labels = unit(5, seed=0), np.array([0, 1, 2, 1, 0])
    directions = np.random.default_rng(1).normal(size=(3, 6))
    logits = vectors @ (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
    shares = np.exp(logits / TEMPERATURE)
    expected = -np.log(shares[np.arange(5), labels] / shares.sum(axis=1)).mean()
    head = CosineHead(torch.from_numpy(directions))
    found = head(torch.from_numpy(vectors), torch.from_numpy(labels))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_contrast_is_khoslas() -> None:
    vectors, labels = unit(6, seed=2), np.array([0, 1, 0, 1, 0, 2])
    scaled = np.exp(vectors @ vectors.T / TEMPERATURE)
    losses = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        same = [j for j in others if labels[j] == labels[i]]
        if same:
            shares = scaled[i, same] / scaled[i, others].sum()
            losses.append(-np.log(shares).mean())
    found = SupervisedContrast()(torch.from_numpy(vectors), torch.from_numpy(labels))
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-6)


def test_a_batch_without_two_of_a_label_has_no_contrast() -> None:
    vectors = torch.from_numpy(unit(3, seed=3)).requires_grad_()
    loss = SupervisedContrast()(vectors, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.item() == 0
    assert vectors.grad is not None
    assert not vectors.grad.any()
