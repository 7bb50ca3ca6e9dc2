"""What is pasted where: every cut-out of a pair, and its controls, at every size and place in every photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.neurons.effects.pasting import Blend, Cutout, covered, grid_centres, placed_box

__all__ = ["ARMS", "Arm", "Slot", "Trials", "make_trials"]

Ints = NDArray[np.int64]
Arm = int
ARMS = ("concept", "other concept", "random crop")
"""What is pasted: the concept that was proposed; a concept that the pair's formulas do not name, scaled to as many
pixels; pixels from a random place of a photo without the concept, in the concept's own outline."""


@dataclass(frozen=True, eq=False)
class Slot:
    """One cut-out of a concept, with the controls that are pasted where it is."""

    cutouts: tuple[Cutout | None, ...]
    """In the order of ``ARMS``; the first and the last are there in any case."""

    @property
    def key(self) -> tuple[int, str]:
        """Tells cut-outs of the concept apart: image of the probe set, concept."""
        concept = self.cutouts[0]
        assert concept is not None
        return concept.image, concept.concept


@dataclass(frozen=True, eq=False)
class Trials:
    """Rows of pictures to make. A trial is one place for one slot in one photo; it has a row per arm."""

    pair: Ints
    trial: Ints
    """Numbers the trials; those of a pair follow each other."""
    arm: Ints
    """Index into ``ARMS``."""
    image: Ints
    """Which image of the labelled data."""
    key: Ints
    """Numbers the concept's cut-outs: the same in all pairs that use it."""
    cutout: Ints
    """Which of ``cutouts`` is pasted."""
    size: Ints
    """Index into the sizes."""
    place: Ints
    """Index into the places of the grid, row by row."""
    box: Ints
    """``(n, 4)``: top, left, height, width."""
    share: NDArray[np.float64]
    """Of the photo that is covered."""
    cutouts: tuple[Cutout, ...]

    def __len__(self) -> int:
        return len(self.pair)


def make_trials(
    slots: Sequence[Sequence[Slot]],
    images: Sequence[Sequence[int]],
    photos: Sequence[tuple[int, int]],
    *,
    sizes: Sequence[float],
    positions: int,
    blend: Blend,
) -> Trials:
    """Return every slot of each pair at every size and place in each photo of the pair.

    Parameters
    ----------
    slots, images
        Of each pair.
    photos
        (height, width) of all images of the data, as they are stored.
    sizes
        The longer side of the concept's cut-out, as shares of the photo's shorter side.
    positions
        Places along each side; see `explain.neurons.effects.pasting.grid_centres`.
    """
    numbers: dict[int, int] = {}
    cutouts: list[Cutout] = []
    keys: dict[tuple[int, str], int] = {}
    rows: list[tuple[int, ...]] = []
    boxes: list[tuple[int, int, int, int]] = []
    shares: list[float] = []
    trial = 0
    for pair, (own, photos_of_pair) in enumerate(zip(slots, images, strict=True)):
        for image in photos_of_pair:
            for slot in own:
                key = keys.setdefault(slot.key, len(keys))
                for size, place, arm, box in _of_slot(slot, photos[image], sizes, positions):
                    cutout = slot.cutouts[arm]
                    assert cutout is not None
                    if id(cutout) not in numbers:
                        numbers[id(cutout)] = len(cutouts)
                        cutouts.append(cutout)
                    where = trial + size * positions**2 + place
                    rows.append((pair, where, arm, image, key, numbers[id(cutout)], size, place))
                    boxes.append(box)
                    shares.append(covered(photos[image], cutout, box, blend))
                trial += len(sizes) * positions**2
    columns = np.array(rows, np.int64).reshape(-1, 8)
    pairs, trials, arms, images_of, keys_of, cutouts_of, sizes_of, places_of = columns.T
    return Trials(
        pairs,
        trials,
        arms,
        images_of,
        keys_of,
        cutouts_of,
        sizes_of,
        places_of,
        np.array(boxes, np.int64).reshape(-1, 4),
        np.array(shares, np.float64),
        tuple(cutouts),
    )


def _of_slot(
    slot: Slot, photo: tuple[int, int], sizes: Sequence[float], positions: int
) -> list[tuple[int, int, Arm, tuple[int, int, int, int]]]:
    """Return (size, place, arm, box) of all pictures of a slot in one photo."""
    concept = slot.cutouts[0]
    assert concept is not None
    found = []
    for size, share in enumerate(sizes):
        scale = share * min(photo) / max(concept.alpha.shape)
        for place, centre in enumerate(grid_centres(positions)):
            for arm, cutout in enumerate(slot.cutouts):
                if cutout is not None:
                    own = scale * math.sqrt(concept.area / cutout.area)
                    shape = cutout.alpha.shape[0], cutout.alpha.shape[1]
                    found.append((size, place, arm, placed_box(shape, own, photo, centre)))
    return found
