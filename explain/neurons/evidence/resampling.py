"""How much a score depends on the images: a bootstrap over images of the IoU, and of the winner's lead.

For each image the formula's pixels, the unit's and what they share are counted once; images are drawn with
replacement, and their counts added (Efron & Tibshirani 1993, chapter 13: percentiles).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.neurons.cells import formula_cells
from explain.neurons.evidence.parts import Measured
from explain.neurons.firing import Firing, count_firing
from explain.neurons.formula import Formula

__all__ = ["Resampled", "draw_images", "image_counts", "resampled"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """A unit's IoU over resampled images."""

    low: float
    """2.5 % point."""
    high: float
    """97.5 % point."""
    win_probability: float | None
    """Share of the resamplings in which the formula stays above the runner-up (ties count half); None without one."""


def draw_images(count: int, draws: int, seed: int) -> Floats:
    """Return float64 ``(draws, N)``: how often each image is drawn."""
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)


def image_counts(measured: Measured, unit: int, formulas: list[Formula]) -> tuple[Floats, Floats, Floats]:
    """Return each image's counts: shared ``(f, N)``, the formula's pixels ``(f, N)``, the unit's ``(N,)``."""
    index = measured.index
    pairs = measured.firing.select([unit])
    each = Firing(np.arange(len(pairs)), pairs.image, pairs.maps)  # a row per image that fires
    limits = np.full(len(pairs), measured.thresholds[unit], np.float32)
    upper = None if measured.upper is None else np.full(len(pairs), measured.upper[unit], np.float32)
    counts = count_firing(each, limits, index, units=len(pairs), upper=upper, upsampling=measured.upsampling)
    images = len(index)
    active = np.bincount(pairs.image, counts.active, images).astype(np.float64)
    shared, pixels = np.zeros((len(formulas), images)), np.zeros((len(formulas), images))
    owner = np.repeat(np.arange(images), np.diff(index.start))
    for row, formula in enumerate(formulas):
        holds = formula_cells(index.cells, formula)
        shared[row] = np.bincount(pairs.image, counts.within(holds), images)
        inside = holds[index.lookup]
        pixels[row] = np.bincount(owner[inside], measured.pixels[inside], images)
    return shared, pixels, active


def resampled(measured: Measured, unit: int, formulas: list[Formula], draws: Floats) -> Resampled:
    """Return the interval of the first formula's IoU, and how often it beats the second."""
    shared, pixels, active = image_counts(measured, unit, formulas[:2])
    union = active + pixels - shared
    scores = (draws @ shared.T) / np.maximum(draws @ union.T, 1)
    low, high = np.quantile(scores[:, 0], [0.025, 0.975]).tolist()
    win = None
    if len(formulas) > 1:
        lead = scores[:, 0] - scores[:, 1]
        win = float((lead > 0).mean() + (lead == 0).mean() / 2)
    return Resampled(low, high, win)
