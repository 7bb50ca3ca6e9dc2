"""Network in Network (Lin, Chen and Yan 2013): the net that ends in one map per class and global average pooling."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import nn

from explain.errors import InputError, near

__all__ = ["nin"]

# Per mlpconv layer: (channels of its convolution and of the two 1x1 after it, kernel, stride, padding).
_LAYERS = {
    "imagenet": (
        ((96, 96, 96), 11, 4, 0),
        ((256, 256, 256), 5, 1, 2),
        ((384, 384, 384), 3, 1, 1),
        ((1024, 1024, 0), 3, 1, 1),
    ),
    "cifar": (
        ((192, 160, 96), 5, 1, 2),
        ((192, 192, 192), 5, 1, 2),
        ((192, 192, 0), 3, 1, 1),
    ),
}


def nin(
    classes: int = 1000,
    *,
    version: Literal["imagenet", "cifar"] = "imagenet",
    channels: int = 3,
    dropout: float = 0.5,
    seed: int = 0,
) -> nn.Sequential:
    """Return a Network in Network with new weights: mlpconv layers, the last with one map per class, GAP.

    Each mlpconv layer is a convolution and two 1x1 convolutions, each with ReLU; 3x3 max pooling of stride 2 and
    dropout stand between them (section 3). The logits are the means of the last maps, which are the class activation
    maps themselves. Softmax is left to the loss.

    Parameters
    ----------
    classes, channels
        Number of logits; of the images' channels.
    version
        ``"imagenet"``: four mlpconv layers, from 224 x 224 a map of 6 x 6 (the network that the CAM paper compares
        with); ``"cifar"``: three, from 32 x 32 a map of 8 x 8.
    dropout
        Probability, in [0, 1).
    seed
        Of the weights (He et al. 2015, for depth without pre-training).

    Raises
    ------
    InputError
        Unknown version, options out of range.
    """
    if version not in _LAYERS:
        raise InputError(f"unknown version {version!r}{near(version, _LAYERS)}; known: {', '.join(_LAYERS)}")
    if classes < 1 or channels < 1 or not 0 <= dropout < 1 or seed < 0:
        raise InputError(f"classes={classes}, channels={channels}, dropout={dropout}, seed={seed}: out of range")
    generator = torch.Generator().manual_seed(seed)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (widths, kernel, stride, padding) in enumerate(_LAYERS[version], 1):
        if number > 1:
            # Pooled maps round up, so that no border pixel is lost (54 -> 27 -> 13 -> 6, 32 -> 16 -> 8).
            parts[f"pool{number - 1}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
            # The CIFAR net has dropout after each pooling, the published ImageNet net before its last layer only.
            if version == "cifar" or number == len(_LAYERS[version]):
                parts[f"dropout{number - 1}"] = nn.Dropout(dropout)
        layer = []
        for place, wanted in enumerate(widths):
            width = wanted or classes
            shape = (kernel, stride, padding) if place == 0 else (1, 1, 0)
            layer += [_convolution(channels, width, *shape, generator), nn.ReLU()]
            channels = width
        parts[f"mlpconv{number}"] = nn.Sequential(*layer)
    return nn.Sequential(parts | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()})


def _convolution(
    channels: int, width: int, kernel: int, stride: int, padding: int, generator: torch.Generator
) -> nn.Conv2d:
    # Not initialised by torch: that would draw random numbers, which are the user's.
    made: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, channels, width, kernel, stride=stride, padding=padding)
    nn.init.kaiming_normal_(made.weight, nonlinearity="relu", generator=generator)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made
