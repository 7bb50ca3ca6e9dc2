"""The images that fire each unit most: what reports show of a unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.neurons.collect import Collected

__all__ = ["Examples", "top_examples"]


@dataclass(frozen=True)
class Examples:
    """The images that fire each unit most: float32 peaks and maps, int64 image numbers, ``(u, t)``; -1: none."""

    peaks: Tensor
    images: Tensor
    maps: Tensor
    """``(u, t, h, w)``."""


def top_examples(collected: Collected, count: int) -> Examples:
    """Return the ``count`` images with each unit's highest peaks; of equal ones the earlier image.

    Of ranges of activation: the images with the most of the map's own values in the range.
    """
    firing, units = collected.firing, len(collected.thresholds)
    peaks = torch.full((units, count), -torch.inf)
    images = torch.full((units, count), -1, dtype=torch.int64)
    maps = torch.zeros(units, count, *firing.grid)
    height = firing.maps.max((1, 2), initial=-np.inf)
    rank = height if collected.upper is None else _values_within(collected, collected.upper)
    order = np.lexsort((firing.image, -rank, firing.unit))
    place = np.arange(len(order)) - firing.indptr(units)[firing.unit]  # within the unit; the order keeps units together
    chosen, place = order[place < count], place[place < count]
    at = firing.unit[chosen], place
    peaks[at], images[at] = torch.from_numpy(height[chosen]), torch.from_numpy(firing.image[chosen])
    maps[at] = torch.from_numpy(firing.maps[chosen])
    return Examples(peaks, images, maps)


def _values_within(collected: Collected, upper: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return how many values of each map lie within its unit's ends."""
    firing = collected.firing
    low, high = collected.thresholds[firing.unit][:, None, None], upper[firing.unit][:, None, None]
    return np.asarray(((firing.maps > low) & (firing.maps <= high)).sum((1, 2)), np.int64)
