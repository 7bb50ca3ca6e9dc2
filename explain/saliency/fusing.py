"""One map from the maps of several layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from explain.errors import InputError
from explain.types import Saliency, normalize_maps, resize_maps

__all__ = ["Fusion", "fuse"]

Fusion = Literal["mean", "max", "product"]


def fuse(maps: Sequence[Saliency], how: Fusion = "mean") -> Saliency:
    """Return one result from those of several layers for the same images and classes.

    Each map is divided by its maximum (layers differ in scale, which is that of their gradients), resized to the
    finest grid (bilinear), and the mean, maximum or product is taken: torch-cam takes the maximum, pytorch-grad-cam
    the mean, RefineCAM the product. One layer's maps come back as they are.

    Raises
    ------
    InputError
        No maps, or an unknown way.
    """
    if how not in ("mean", "max", "product"):
        raise InputError(f"unknown fusion {how!r}: use mean, max or product")
    if not maps:
        raise InputError("there are no maps to fuse")
    if len(maps) == 1:
        return maps[0]
    finest = max((one.values.shape[2:] for one in maps), key=lambda grid: grid[0] * grid[1])
    stack = torch.stack([resize_maps(normalize_maps(one.values), (finest[0], finest[1])) for one in maps])
    values = {"mean": lambda: stack.mean(0), "max": lambda: stack.amax(0), "product": lambda: stack.prod(0)}[how]()
    return replace(maps[0], values=values, layer="+".join(one.layer for one in maps))
