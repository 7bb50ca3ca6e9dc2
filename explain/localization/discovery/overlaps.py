"""Which labelled things lie under the regions that maps point at: counts of pixels, and what they say.

Two scores, because a wall or a sky is under every region. *Frequency* is the CAM paper's: in how many images the
object overlaps the region. *Lift* is corrected for chance: the object's pixels inside the regions, over those expected
if a region of the same size lay anywhere in the same image; 1 is chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError
from explain.localization.metrics import Score, proportion
from explain.types import Concept, Labels

__all__ = ["ObjectRow", "Overlaps", "count_overlaps", "rank_objects"]

_REPLICATES = 1000


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Counted pixels of ``n`` images and ``k`` concepts; ignored pixels are not counted."""

    inside: NDArray[np.int32]
    """``(n, k)``: pixels of the concept inside the region."""
    area: NDArray[np.int32]
    """``(n, k)``: pixels of the concept."""
    region: NDArray[np.int32]
    """``(n,)``: pixels of the region."""
    total: NDArray[np.int32]
    """``(n,)``: pixels."""


@dataclass(frozen=True)
class ObjectRow:
    """One object in the images of one class."""

    name: str
    category: str
    overlapping: int
    """Images where the object lies in the region, at least in part."""
    present: int
    """Images that show the object."""
    frequency: Score
    """``overlapping`` of all images of the class, in percent."""
    lift: float
    low: float | None
    high: float | None
    """The lift's 95 % interval, a bootstrap over images; None where one image alone shows the object."""


def count_overlaps(pairs: Iterable[tuple[NDArray[np.bool_], Labels]], concepts: int) -> Overlaps:
    """Count each concept's pixels inside and outside the region of each image.

    Parameters
    ----------
    pairs
        Per image the region ``(h, w)`` and the labels at that size. A pixel with a concept in two label layers counts
        once; whole-image concepts are not counted.
    concepts
        How many there are.

    Raises
    ------
    InputError
        A region and labels of different sizes.
    """
    inside, area, region, total = [], [], [], []
    for mask, labels in pairs:
        if mask.shape != labels.maps.shape[1:]:
            raise InputError(f"a region of {mask.shape} pixels and labels of {labels.maps.shape[1:]}: give one size")
        counted = np.ones(mask.shape, bool) if labels.ignored is None else ~labels.ignored
        under = mask & counted
        found = np.zeros((2, concepts), np.int32)
        for concept in np.unique(labels.maps[labels.maps >= 0]):
            own = (labels.maps == concept).any(0)
            found[:, concept] = (own & under).sum(), (own & counted).sum()
        inside.append(found[0])
        area.append(found[1])
        region.append(under.sum())
        total.append(counted.sum())
    shape = (len(inside), concepts)
    return Overlaps(
        np.array(inside, np.int32).reshape(shape),
        np.array(area, np.int32).reshape(shape),
        np.array(region, np.int32),
        np.array(total, np.int32),
    )


def rank_objects(
    counted: Overlaps,
    concepts: Sequence[Concept],
    *,
    overlap: float = 0.0,
    least: float = 0.2,
    top: int = 6,
    seed: int = 0,
) -> tuple[tuple[ObjectRow, ...], tuple[ObjectRow, ...]]:
    """Return the objects that overlap the regions of a class's images most often, and those of the largest lift.

    Parameters
    ----------
    counted
        Of the images of the class.
    overlap
        An object overlaps a region if more than this share of its own pixels lies there; 0: any pixel.
    least
        Share of the images that have to show an object before its lift is ranked, and at least two do: what is seldom
        there tells little of the class, and its lift is anyone's guess.
    top
        How many to return of each.
    seed
        Of the bootstrap.
    """
    images = len(counted.region)
    overlapping = counted.inside > overlap * counted.area
    present = (counted.area > 0).sum(0)
    lift, low, high = _lifts(counted, seed)
    rows = {
        k: ObjectRow(
            concepts[k].name,
            concepts[k].category,
            int(overlapping[:, k].sum()),
            int(present[k]),
            proportion(overlapping[:, k]),
            float(lift[k]),
            float(low[k]) if present[k] > 1 else None,
            float(high[k]) if present[k] > 1 else None,
        )
        for k in np.flatnonzero(present).tolist()
    }
    often = sorted(rows, key=lambda k: (-rows[k].overlapping, -rows[k].lift, k))
    seen = [k for k in rows if rows[k].present >= max(2, least * images)]
    lifted = sorted(seen, key=lambda k: (-rows[k].lift, -rows[k].overlapping, k))
    return tuple(rows[k] for k in often[:top]), tuple(rows[k] for k in lifted[:top])


def _lifts(counted: Overlaps, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each concept's lift ``(k,)`` with its interval; 0 where nothing is expected."""
    share = np.divide(counted.region, counted.total, out=np.zeros(len(counted.total)), where=counted.total > 0)
    inside, expected = counted.inside.astype(np.float64), counted.area * share[:, None]
    there = expected.sum(0) > 0
    lift, low, high = np.zeros((3, len(there)))
    if not there.any():
        return lift, low, high
    lift[there] = inside[:, there].sum(0) / expected[:, there].sum(0)
    n = len(inside)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), _REPLICATES).astype(np.float64)
    above, below = drawn @ inside[:, there], drawn @ expected[:, there]
    # A replicate without any image of the object says nothing about its lift.
    ratios = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    low[there], high[there] = np.nanquantile(ratios, [0.025, 0.975], axis=0)
    return lift, np.minimum(low, lift), np.maximum(high, lift)
