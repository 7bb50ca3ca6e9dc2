"""The IoU that chance gives: the same search where each image's maps lie on the labels of another image.

A search over thousands of formulas always finds something. Shuffling images keeps the maps and the labels as they are
and breaks only what joins them; so the best IoU of the same search over shuffled images is what chance gives. The
p-value counts itself: ``(1 + #{null >= observed}) / (1 + shuffles)`` (Phipson & Smyth 2010), and cannot be below ``1 /
(1 + shuffles)``. Over units it is corrected by Benjamini & Hochberg (1995).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from explain.errors import InputError
from explain.neurons.counts import UnitCounts
from explain.neurons.evidence._shuffled import count_orders
from explain.neurons.evidence.heldout import Search
from explain.neurons.evidence.parts import Measured
from explain.neurons.upsampling import upsample

__all__ = ["Chance", "against_untrained", "by_chance", "corrected"]

_ENTRIES = 1 << 24  # counts held at one time
_MAPS = 256  # upsampled at one time


@dataclass(frozen=True)
class Chance:
    """One unit against shuffled images."""

    p_value: float
    mean: float
    """Mean IoU of the shuffled searches."""
    quantile95: float
    """95 % of the shuffled searches find no higher IoU."""
    shuffles: int


def by_chance(
    measured: Measured,
    observed: NDArray[np.float64],
    search: Search,
    *,
    shuffles: int = 999,
    seed: int = 0,
    numbers: NDArray[np.int64] | None = None,
    known: Mapping[int, Chance] | None = None,
    found: Callable[[int, Chance], None] = lambda number, chance: None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Chance]:
    """Run the search over shuffled images, unit by unit.

    Parameters
    ----------
    observed
        float64 ``(u,)``: the IoU that ``search`` found on the images as they are.
    search
        The search whose result is judged, with the same settings.
    shuffles
        How many; p-values have the resolution ``1 / (1 + shuffles)``.
    seed, numbers
        Each unit has shuffles of its own, made of the seed and its number (int64 ``(u,)``; its place where None): they
        do not depend on what other units there are.
    known
        What is known from an interrupted job, by the unit's number; it is taken as it is.
    found
        Told each unit's number and result, for saving.

    Raises
    ------
    InputError
        ``shuffles`` is below 1.
    """
    if shuffles < 1:
        raise InputError(f"shuffles {shuffles}: give at least 1, such as 999")
    names = np.arange(measured.units) if numbers is None else numbers
    indptr = measured.firing.indptr(measured.units)
    rows = []
    for unit, number in enumerate(names.tolist()):
        if known is not None and number in known:
            rows.append(known[number])
        else:
            part = slice(indptr[unit], indptr[unit + 1])
            null = _null(measured, unit, part, search, shuffles, np.random.default_rng([seed, number]))
            p_value = (1 + int((null >= observed[unit]).sum())) / (1 + shuffles)
            rows.append(Chance(p_value, float(null.mean()), float(np.quantile(null, 0.95)), shuffles))
            found(number, rows[-1])
        if progress is not None:
            progress(unit + 1, measured.units)
    return rows


def _null(
    measured: Measured, unit: int, part: slice, search: Search, shuffles: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return the best IoU of each shuffle: shuffles are counted and searched as if they were units."""
    images = measured.firing.image[part]
    null = np.zeros(shuffles)
    if not len(images):
        return null
    begins, pixels = _active_pixels(measured, unit, part)
    index = measured.index
    local = np.ascontiguousarray(index.local).reshape(len(index), -1)
    start, lookup = np.require(index.start, np.int64, ["C", "W"]), np.require(index.lookup, np.int64, ["C", "W"])
    most = int(np.minimum(np.diff(begins), int(np.diff(start).max())).sum())  # cells of one shuffle
    step = max(1, _ENTRIES // max(1, most))
    scratch = np.zeros(len(index.cells), np.int64)
    for begin in range(0, shuffles, step):
        size = min(step, shuffles - begin)
        laid = np.stack([random.permutation(len(index)) for _ in range(size)])[:, images]
        indptr, cells, counts = np.zeros(size + 1, np.int64), *np.empty((2, size * most), np.int64)
        count_orders(begins, pixels, laid, (local, start, lookup), scratch, indptr, cells, counts)
        found = UnitCounts(indptr, cells[: indptr[-1]], counts[: indptr[-1]])
        null[begin : begin + size] = [result.iou for result in search(index.cells, found)]
    return null


def _active_pixels(measured: Measured, unit: int, part: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the active pixels of a unit's maps, one after the other, and where each map's begin."""
    size = measured.index.local.shape[1:]
    low, high = float(measured.thresholds[unit]), np.inf if measured.upper is None else float(measured.upper[unit])
    sizes, pixels = [np.zeros(1, np.int64)], [np.zeros(0, np.int64)]
    for begin in range(part.start, part.stop, _MAPS):
        maps = torch.from_numpy(measured.firing.maps[begin : min(begin + _MAPS, part.stop)])
        large = upsample(maps, (size[0], size[1]), measured.upsampling).flatten(1).numpy()
        active = (large > low) & (large <= high)
        sizes.append(active.sum(1))
        pixels.append(np.flatnonzero(active) % active.shape[1])
    return np.cumsum(np.concatenate(sizes)), np.concatenate(pixels)


def corrected(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the q-values of Benjamini & Hochberg (1995): the false discovery rate at which each unit is found."""
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * count / np.arange(1, count + 1)
    values = np.empty(count)
    values[order] = np.minimum.accumulate(steps[::-1])[::-1]
    return np.minimum(values, 1.0)


def against_untrained(observed: NDArray[np.float64], untrained: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values against the units of the same layer with untrained weights: ``(1 + #{>=}) / (1 + units)``."""
    above = (untrained[None, :] >= observed[:, None]).sum(1)
    return np.asarray((1 + above) / (1 + len(untrained)), np.float64)
