"""Cut-outs pasted into photos: geometry and pixels.

A photo is uint8 ``(h, w, 3)``, as it is stored. Boxes are (top, left, height, width) in its pixels, and may reach over
its edges: what lies outside is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explain.data.fetching import Fetched
from explain.nets.inputs import read_image
from explain.opencv import distance_to_background, seamless_clone

__all__ = ["BLENDS", "Blend", "Cutout", "Pixels", "covered", "grid_centres", "paste", "pasted_pictures", "placed_box"]

Pixels = NDArray[np.uint8]
Blend = Literal["none", "feather", "seamless"]
BLENDS: tuple[Blend, ...] = ("none", "feather", "seamless")
Box = tuple[int, int, int, int]

FEATHER = 0.1
"""Width of the soft rim, as a share of the pasted box's shorter side."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """A region of a photo, cut to its tight box."""

    pixels: Pixels
    """``(h, w, 3)``."""
    alpha: Pixels
    """``(h, w)``: 255 inside the region, 0 outside."""
    image: int
    """Which image of the probe set it is from."""
    concept: str
    """What it shows; ``""`` for a random crop."""

    @property
    def area(self) -> int:
        """Pixels of the region."""
        return int(np.count_nonzero(self.alpha))


def grid_centres(positions: int) -> list[tuple[float, float]]:
    """Return the (y, x) of the middles of ``positions * positions`` equal fields of a picture, as shares of its sides.

    >>> grid_centres(2)
    [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]
    """
    middles = [(index + 0.5) / positions for index in range(positions)]
    return [(y, x) for y in middles for x in middles]


def placed_box(shape: tuple[int, int], scale: float, photo: tuple[int, int], centre: tuple[float, float]) -> Box:
    """Return where a cut-out of ``shape = (h, w)`` lies when it is scaled and centred there; sides are at least 1.

    ``centre`` is (y, x) in shares of the photo's (height, width); halves are rounded up.
    """
    height, width = (max(1, math.floor(side * scale + 0.5)) for side in shape)
    top = math.floor(centre[0] * photo[0] - height / 2 + 0.5)
    left = math.floor(centre[1] * photo[1] - width / 2 + 0.5)
    return top, left, height, width


def paste(photo: Pixels, cutout: Cutout, box: Box, blend: Blend = "none") -> Pixels:
    """Return a copy of a photo with a cut-out scaled into a box.

    The cut-out and its alpha are resized by Pillow (bilinear, antialiased), and each pixel and colour becomes
    ``(alpha * cut-out + (255 - alpha) * photo + 127) // 255``.

    Parameters
    ----------
    photo
        uint8 ``(h, w, 3)``.
    blend
        ``"none"``: as above; ``"feather"``: alpha rises from the region's edge inwards; ``"seamless"``: the cut-out's
        gradients, with the photo's colours at its edge (Perez et al. 2003; OpenCV's ``seamlessClone``).
    """
    rows, columns, inside = _overlap(photo.shape[:2], box)
    result = photo.copy()
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return result
    pixels = _resized(cutout.pixels, box)[inside]
    alpha = _alpha(cutout, box, blend)[inside]
    if blend == "seamless":
        patch, mask = photo.copy(), np.zeros(photo.shape[:2], np.bool_)
        patch[rows, columns] = pixels
        mask[rows, columns] = alpha >= 128
        return seamless_clone(patch, photo, mask)
    share = alpha.astype(np.int32)[..., None]
    mixed = share * pixels + (255 - share) * photo[rows, columns]
    result[rows, columns] = (mixed + 127) // 255
    return result


def covered(photo: tuple[int, int], cutout: Cutout, box: Box, blend: Blend = "none") -> float:
    """Return the share of a photo of ``(height, width)`` that a pasted cut-out covers."""
    rows, columns, inside = _overlap(photo, box)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return 0.0
    return float(_alpha(cutout, box, blend)[inside].sum()) / (255 * photo[0] * photo[1])


def _overlap(photo: Sequence[int], box: Box) -> tuple[slice, slice, tuple[slice, slice]]:
    """Return the rows and columns of the photo that a box covers, and the same in the box's own pixels."""
    top, left, height, width = box
    rows, columns = slice(max(0, top), min(photo[0], top + height)), slice(max(0, left), min(photo[1], left + width))
    own = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    return rows, columns, own


def _resized(values: Pixels, box: Box) -> Pixels:
    if values.shape[:2] == box[2:]:
        return values
    return np.asarray(Image.fromarray(values).resize((box[3], box[2]), Image.Resampling.BILINEAR))


def _alpha(cutout: Cutout, box: Box, blend: Blend) -> Pixels:
    alpha = _resized(cutout.alpha, box)
    if blend != "feather":
        return alpha
    rim = max(1.0, FEATHER * min(box[2:]))
    depth = distance_to_background(np.pad(alpha >= 128, 1))[1:-1, 1:-1]
    return np.floor(255 * np.minimum(1.0, depth / rim) + 0.5).astype(np.uint8)


def pasted_pictures(
    photos: Sequence[Any],
    cutouts: Sequence[Cutout],
    image: NDArray[np.int64],
    cutout: NDArray[np.int64],
    box: NDArray[np.int64],
    blend: Blend,
) -> Fetched:
    """Return pictures that are pasted when they are asked for: row i is ``cutout[i]`` in ``image[i]`` at ``box[i]``.

    Parameters
    ----------
    photos
        What `explain.nets.inputs.read_image` takes.
    image, cutout, box
        ``(n,)``, ``(n,)`` and ``(n, 4)``.
    """
    return Fetched(len(image), partial(_pasted, photos, tuple(cutouts), image, cutout, box, blend))


def _pasted(
    photos: Sequence[Any],
    cutouts: tuple[Cutout, ...],
    image: NDArray[np.int64],
    cutout: NDArray[np.int64],
    box: NDArray[np.int64],
    blend: Blend,
    row: int,
) -> Image.Image:
    photo = np.asarray(read_image(photos[int(image[row])]))
    top, left, height, width = box[row].tolist()
    return Image.fromarray(paste(photo, cutouts[int(cutout[row])], (top, left, height, width), blend))
