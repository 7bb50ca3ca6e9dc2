"""Maps that know nothing of the image: what a faithfulness score has to beat.

A control holds the very values of the map it stands for, in other places. Its histogram and its resolution are
the same, so that it covers as much of the image and is as smooth; only *where* it points differs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from explain.errors import InputError

__all__ = ["CONTROLS", "Control", "control_maps", "ranked"]

Control = Literal["random", "centre"]
CONTROLS: tuple[Control, ...] = ("random", "centre")


def control_maps(values: Tensor, control: Control, generator: torch.Generator) -> Tensor:
    """Return maps ``(b, k, h, w)`` with the values of ``values``, map by map, in other places.

    ``"random"``: shuffled, each map on its own. ``"centre"``: the largest value in the middle, then outwards in the
    order of a centred Gaussian whose spread follows the map's sides; places at one distance in random order.

    Parameters
    ----------
    generator
        On the CPU; as many numbers are drawn for a map on any device.

    Raises
    ------
    InputError
        Another word.
    """
    b, k, height, width = values.shape
    size = height * width
    flat = values.reshape(b, k, size)
    shuffles = torch.stack([torch.randperm(size, generator=generator) for _ in range(b * k)]).view(b, k, size)
    shuffles = shuffles.to(values.device)
    if control == "random":
        return flat.gather(2, shuffles).view_as(values)
    if control != "centre":
        raise InputError(f"unknown control {control!r}: use 'random' or 'centre'")
    y = (torch.arange(height, device=values.device) + 0.5) / height - 0.5
    x = (torch.arange(width, device=values.device) + 0.5) / width - 0.5
    near = -(y[:, None] ** 2 + x**2).reshape(1, 1, size).expand(b, k, size)
    places = torch.stack([ranked(near[i], shuffles[i]) for i in range(b)])
    falling = flat.sort(dim=2, descending=True).values
    return torch.empty_like(flat).scatter_(2, places, falling).view_as(values)


def ranked(flat: Tensor, ties: Tensor) -> Tensor:
    """Return ``(m, n)``: the places of ``flat`` ``(m, n)`` by falling value; equal values in the order of ``ties``.

    ``ties`` is a permutation ``(n,)`` or one per row. Raster order would take plateaus from the top of the image.
    """
    ties = ties.expand_as(flat)
    order = flat.gather(1, ties).argsort(dim=1, descending=True, stable=True)
    return ties.gather(1, order)
