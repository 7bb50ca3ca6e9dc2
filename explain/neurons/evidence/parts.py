"""Part of the images as a table of cells of its own, over the same cell numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled
from explain.errors import InputError
from explain.neurons.cells import CellIndex, Cells
from explain.neurons.counts import UnitCounts
from explain.neurons.firing import Firing, count_firing
from explain.neurons.upsampling import Axes, Upsampling

__all__ = [
    "SEARCHED",
    "Measured",
    "cells_of_images",
    "count_images",
    "image_pixels",
    "share_at_random",
    "share_by_column",
]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SEARCHED = ("train", "training", "search")
"""Values of a split column that name the images to search on; the others are held out."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What every kind of evidence starts from: a layer's units on a probe set."""

    index: CellIndex
    firing: Firing
    thresholds: NDArray[np.float32]
    """``(u,)``: active is what lies strictly above."""
    pixels: Ints
    """Of `image_pixels`."""
    upsampling: Upsampling | Axes = "bilinear"
    upper: NDArray[np.float32] | None = None
    """``(u,)``: and at most this, where units are ranges of activation; nothing is too high where None."""

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.thresholds)

    def select(self, units: Sequence[int] | Ints) -> Measured:
        """Return some of the units, numbered anew in the order given."""
        chosen = np.asarray(units, np.int64)
        upper = None if self.upper is None else self.upper[chosen]
        return replace(self, firing=self.firing.select(chosen), thresholds=self.thresholds[chosen], upper=upper)


def image_pixels(index: CellIndex) -> Ints:
    """Return int64, one per entry of ``index.lookup``: how many pixels of that image lie in that cell."""
    found = np.zeros(len(index.lookup), np.int64)
    _count_pixels(np.ascontiguousarray(index.local).reshape(len(index), -1), np.require(index.start, np.int64), found)
    return found


@compiled
def _count_pixels(local: Any, start: Ints, found: Ints) -> None:  # pragma: no cover - compiled
    for image in range(len(local)):
        begin, room = start[image], start[image + 1] - start[image]
        for at in range(local.shape[1]):
            number = np.int64(local[image, at])
            if number < room:  # the largest value marks ignored pixels
                found[begin + number] += 1


def cells_of_images(index: CellIndex, pixels: Ints, images: Bools) -> Cells:
    """Return the table with the pixels of some images only; the cells keep their numbers, and may be empty."""
    taken = np.repeat(images, np.diff(index.start))
    counts = np.zeros(len(index.cells), np.int64)
    np.add.at(counts, index.lookup[taken], pixels[taken])
    return replace(index.cells, counts=counts)


def count_images(measured: Measured, images: Bools) -> tuple[Cells, UnitCounts]:
    """Return the table and the units' counts of some images (bool ``(N,)``)."""
    laid = np.where(images, np.arange(len(images)), -1)
    counts = count_firing(
        measured.firing,
        measured.thresholds,
        measured.index,
        units=measured.units,
        images=laid,
        upper=measured.upper,
        upsampling=measured.upsampling,
    )
    return cells_of_images(measured.index, measured.pixels, images), counts


def share_at_random(count: int, share: float, seed: int) -> Bools:
    """Return bool ``(N,)``: which images are held out, drawn by ``seed``.

    Raises
    ------
    InputError
        One of the two parts would be empty.
    """
    held = round(share * count)
    if not 0 < held < count:
        raise InputError(f"held-out share {share} of {count} images: one part would be empty; give e.g. 0.3")
    mask = np.zeros(count, np.bool_)
    mask[np.random.default_rng(seed).permutation(count)[:held]] = True
    return mask


def share_by_column(values: Sequence[str], searched: Sequence[str] = SEARCHED) -> Bools:
    """Return bool ``(N,)``: which images are held out, those whose value is none of ``searched``.

    Raises
    ------
    InputError
        One of the two parts would be empty.
    """
    mask = np.array([value.strip().lower() not in searched for value in values], np.bool_)
    if mask.all() or not mask.any():
        found = ", ".join(sorted(set(values))[:6])
        raise InputError(f"the split column holds {found}: some images must be {' or '.join(searched)}, others not")
    return mask
