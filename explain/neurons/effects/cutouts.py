"""Cut-outs of concepts: regions of probe images, found by their masks, at the stored photos' resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explain.nets.inputs import read_image
from explain.neurons.effects.pasting import Cutout
from explain.opencv import components
from explain.types import ProbeSet

__all__ = ["REGIONS", "Region", "concept_mask", "find_cutouts", "random_crop", "region_of"]

Region = Literal["component", "whole"]
REGIONS: tuple[Region, ...] = ("component", "whole")

LEAST = 0.01
"""Share of its photo that a region must cover: smaller ones would be blown up to a blur."""


def concept_mask(probe: ProbeSet, image: int, size: tuple[int, int], concept: int) -> NDArray[np.bool_]:
    """Return bool ``(h, w)``: where an image of the probe set shows a concept; pixels that are left out are False."""
    labels = probe.labels(image, size)
    if concept in labels.whole:
        mask = np.ones(size, np.bool_)
    else:
        mask = (labels.maps == concept).any(0)
    return mask if labels.ignored is None else mask & ~labels.ignored


def region_of(mask: NDArray[np.bool_], region: Region) -> NDArray[np.bool_]:
    """Return the part of a concept's mask that is cut out: its largest 8-connected component, or all of it."""
    if region == "whole" or not mask.any():
        return mask
    found = components(mask)
    return np.asarray(found.labels == 1 + int(found.areas.argmax()), np.bool_)


def find_cutouts(
    probe: ProbeSet,
    concept: int,
    images: Sequence[int],
    count: int,
    *,
    region: Region = "component",
    least: float = LEAST,
) -> list[Cutout]:
    """Return up to ``count`` cut-outs of a concept, one per image, from the first images that have one.

    Parameters
    ----------
    images
        Which images of the probe set to look at, in this order.
    least
        Share of the photo that the region must cover.
    """
    found: list[Cutout] = []
    for number in images:
        if len(found) == count:
            break
        photo = np.asarray(read_image(probe.images[number]))
        mask = region_of(concept_mask(probe, number, (photo.shape[0], photo.shape[1]), concept), region)
        if mask.any() and mask.mean() >= least:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            alpha = mask[inside].astype(np.uint8) * np.uint8(255)
            found.append(Cutout(photo[inside].copy(), alpha, number, probe.concepts[concept].name))
    return found


def random_crop(probe: ProbeSet, image: int, like: Cutout, rng: np.random.Generator) -> Cutout:
    """Return a cut-out of the same shape from a random place of an image; of a smaller photo, enlarged until it fits.

    ``image``: one that does not show the concept, which the caller sees to.
    """
    picture = read_image(probe.images[image])
    height, width = like.alpha.shape
    enlarge = max(height / picture.height, width / picture.width)
    if enlarge > 1:
        size = math.ceil(picture.width * enlarge), math.ceil(picture.height * enlarge)
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    top = int(rng.integers(picture.height - height + 1))
    left = int(rng.integers(picture.width - width + 1))
    pixels = np.asarray(picture)[top : top + height, left : left + width].copy()
    return Cutout(pixels, like.alpha, image, "")
