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
from numpy.typing import NDArray

from explain.errors import InputError
from explain.neurons.evidence.heldout import Search
from explain.neurons.evidence.parts import Measured
from explain.neurons.firing import Firing, count_firing

__all__ = ["Chance", "against_untrained", "by_chance", "corrected"]

_BYTES = 1 << 28  # of repeated maps held at one time


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
    images, maps = measured.firing.image[part], measured.firing.maps[part]
    null = np.zeros(shuffles)
    if not len(images):
        return null
    step = max(1, _BYTES // max(1, maps.nbytes))
    for begin in range(0, shuffles, step):
        size = min(step, shuffles - begin)
        orders = np.stack([random.permutation(len(measured.index)) for _ in range(size)])
        firing = Firing(
            np.repeat(np.arange(size), len(images)), orders[:, images].reshape(-1), np.tile(maps, (size, 1, 1))
        )
        limits = np.full(size, measured.thresholds[unit], np.float32)
        counts = count_firing(firing, limits, measured.index, units=size, upsampling=measured.upsampling)
        null[begin : begin + size] = [result.iou for result in search(measured.index.cells, counts)]
    return null


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
