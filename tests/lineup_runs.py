"""Neuron runs of a small network before and after a change of its weights, on drawn scenes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import explain
from explain.nets import Preprocess


def network(changed: float) -> nn.Sequential:
    """Return a network whose last filters are moved by so much."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, last = nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.Conv2d(8, 10, 3, padding=1)
        last.weight.data += changed * torch.randn(last.weight.shape)
    return nn.Sequential(first, nn.ReLU(), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def made(
    scenes: Path, out: Path, *, layer: str = "3", changed: float = 0.0, length: int = 2, **options: object
) -> Path:
    """Write a neuron run; ``options`` are those of `explain.dissect`."""
    subject = explain.load(network(changed), transform=Preprocess((56, 56)))
    explain.dissect(subject, layer, scenes, length=2, quantile=0.02, shuffles=0, draws=0).save(out)
    return out
