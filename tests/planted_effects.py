"""A network whose units are colours and whose head uses known ones, with probe images and labelled images for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

SIDE = 16
NAMES = ["red", "green", "blue"]
UNITS = 6
"""red, green, blue, red AND green, nothing, red AND NOT blue."""
HEAD = ((4.0, -3.0, 0, 0, 0, 0), (0, 4.0, -3.0, 0, 0, 0), (-3.0, 0, 4.0, 0, 0, 0))
"""Class k looks for colour k and against colour k + 1; units 3 to 5 are used by none."""


class Planted(nn.Module):
    """A first layer that passes colours on, a 1x1 convolution to planted units at half the size, and a GAP head."""

    def __init__(self, head=HEAD, hidden=False):
        super().__init__()
        self.early = nn.Conv2d(3, 3, 1)
        self.conv = nn.Conv2d(3, UNITS, 2, stride=2)
        self.fc = nn.Linear(UNITS, 3)
        self.hidden = hidden
        rows = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, -1], [0, 0, 0, -1], [1, 0, -1, 0]]
        weight = torch.tensor(rows, dtype=torch.float32)
        with torch.no_grad():
            self.early.weight.copy_(torch.eye(3)[..., None, None])
            self.early.bias.zero_()
            self.conv.weight.copy_((weight[:, :3] / 4)[..., None, None].expand(-1, -1, 2, 2))
            self.conv.bias.copy_(weight[:, 3])
            self.fc.weight.copy_(torch.as_tensor(head, dtype=torch.float32))
            self.fc.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))

    def forward(self, x):
        pooled = self.conv(self.early(x).relu()).relu().mean((2, 3))
        return self.fc(pooled.square() if self.hidden else pooled)


def colours(count, seed=0, most=2):
    """Masks ``(n, 3, SIDE, SIDE)`` of squares in up to so many colours per image, and the colour of the largest."""
    rng = np.random.default_rng(seed)
    masks, labels = np.zeros((count, 3, SIDE, SIDE), bool), []
    for number in range(count):
        chosen = rng.permutation(3)[: rng.integers(1, most + 1)]
        for rank, colour in enumerate(chosen):
            side = 8 if rank == 0 else 4
            y, x = 2 * rng.integers(0, (SIDE - side) // 2 + 1, 2)
            masks[number, colour, y : y + side, x : x + side] = True
        labels.append(int(chosen[0]))
    return masks, labels


def painted(masks, seed):
    """Images float32 ``(n, 3, SIDE, SIDE)``: each square in a brightness of its own that falls to the right.

    So units differ in height, and fire in some cells of a square only.
    """
    light = np.random.default_rng(seed + 100).uniform(0.5, 1.0, masks.shape[:2])
    ramp = np.linspace(1.0, 0.6, SIDE)
    return torch.from_numpy((masks * light[..., None, None] * ramp).astype(np.float32))


def probe(count=12, seed=0):
    """What ``explain.dissect`` takes: images, masks, names."""
    masks, _ = colours(count, seed)
    return painted(masks, seed), masks, NAMES


def labelled(count=36, seed=1):
    """Items (image, class, boxes) as labelled data: the class is the colour of the largest square."""
    masks, labels = colours(count, seed)
    return [(image, label, None) for image, label in zip(painted(masks, seed), labels, strict=True)]


def noise(count=18, seed=2):
    """Items of noise, whose units differ in every image."""
    images = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return [(image, number % 3, None) for number, image in enumerate(images)]
