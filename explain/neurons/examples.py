"""The images that show a unit: those that fire it most, and others that speak for and against its formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.neurons.collected import Collected
from explain.neurons.evidence.parts import Measured
from explain.neurons.evidence.resampling import image_counts
from explain.neurons.formula import Formula, minor_negation

__all__ = ["OTHERS", "Examples", "Picked", "other_examples", "others_of", "top_examples"]

Ints = NDArray[np.int64]

OTHERS = ("random", "false_alarms", "misses", "negation")
"""The kinds of other images, in the order in which they are kept."""


@dataclass(frozen=True, eq=False)
class Picked:
    """Images of one kind that show a unit."""

    kind: str
    """One of `OTHERS`."""
    images: Ints
    """int64 ``(t,)``."""
    peaks: NDArray[np.float32]
    """``(t,)``: the largest value there; -inf where none lies above the threshold."""
    maps: NDArray[np.float32]
    """``(t, h, w)``; full of the threshold, so that nothing is above it, where the map was not kept."""


@dataclass(frozen=True)
class Examples:
    """The images that fire each unit most: float32 peaks and maps, int64 image numbers, ``(u, t)``; -1: none."""

    peaks: Tensor
    images: Tensor
    maps: Tensor
    """``(u, t, h, w)``."""
    others: tuple[tuple[Picked, ...], ...] = ()
    """Per unit, one of each kind that there are images of."""


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


def others_of(
    measured: Measured, formulas: Sequence[Formula | None], numbers: Ints, count: int, seed: int
) -> list[tuple[Picked, ...]]:
    """Return `other_examples` of all units; ``numbers``: the units' own, which with ``seed`` draw the random images."""
    if count == 0:
        return [()] * len(formulas)
    return [
        other_examples(measured, unit, formula, count, [seed, number])
        for unit, (formula, number) in enumerate(zip(formulas, numbers.tolist(), strict=True))
    ]


def other_examples(
    measured: Measured, unit: int, formula: Formula | None, count: int, seed: Sequence[int]
) -> tuple[Picked, ...]:
    """Return at most ``count`` images of each kind; of equal ones the earlier image.

    ``random``: drawn from all images where the unit is active. ``false_alarms``: most pixels where it is active and the
    formula does not hold. ``misses``: most pixels where the formula holds and it is not active. ``negation``: most
    pixels of the formula's minor negation, as the code of Mu & Andreas (2020) shows them. Without a formula, only the
    first.
    """
    formulas = [] if formula is None else [formula, minor_negation(formula)]
    shared, pixels, active = image_counts(measured, unit, formulas)
    fires = np.flatnonzero(active)
    found = {"random": np.random.default_rng(seed).permutation(fires)[:count]}
    if formulas:
        found["false_alarms"] = _most(active - shared[0], count)
        found["misses"] = _most(pixels[0] - shared[0], count)
        found["negation"] = _most(pixels[1], count)
    return tuple(_picked(measured, unit, kind, found[kind]) for kind in OTHERS if kind in found and len(found[kind]))


def _most(scores: NDArray[np.float64], count: int) -> Ints:
    """Return the images of the highest scores above zero."""
    order = np.argsort(-scores, kind="stable")[:count]
    return np.asarray(order[scores[order] > 0], np.int64)


def _picked(measured: Measured, unit: int, kind: str, images: Ints) -> Picked:
    firing = measured.firing
    begin, end = np.searchsorted(firing.unit, [unit, unit + 1])
    own = firing.image[begin:end]
    maps = np.full((len(images), *firing.grid), measured.thresholds[unit], np.float32)
    peaks = np.full(len(images), -np.inf, np.float32)
    for place, image in enumerate(images.tolist()):
        at = int(np.searchsorted(own, image))
        if at < len(own) and own[at] == image:
            maps[place] = firing.maps[begin + at]
            peaks[place] = maps[place].max()
    return Picked(kind, np.asarray(images, np.int64), peaks, maps)
