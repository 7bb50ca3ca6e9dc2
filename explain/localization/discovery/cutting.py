"""Cut images to the boxes of their class maps, and look at what is inside once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.localization.boxes import image_maps
from explain.localization.discovery.heads import class_maps
from explain.localization.discovery.passes import Work, gap_pass, scattered
from explain.localization.discovery.places import Place
from explain.localization.discovery.views import View
from explain.nets.subject import Subject
from explain.pictures import box_of
from explain.types import LocalizationSet

__all__ = ["Cut", "boxes_of", "cut_images", "true_boxes"]


@dataclass(frozen=True, eq=False)
class Cut:
    """Boxes of all images of a data set, and the features of what is inside; rows that were not asked for are zero."""

    boxes: NDArray[np.float64]
    """``(n, 4)``: half-open xyxy in pixels of the image."""
    missing: NDArray[np.bool_]
    """``(n,)``: the map is nowhere positive, and the box is the whole image."""
    maps: NDArray[np.float32]
    """``(n, h, w)``."""
    features: NDArray[np.float32]
    """``(n, c)``."""

    def with_rows(self, other: Cut, rows: NDArray[np.int64]) -> Cut:
        """Return a copy with some rows of another."""
        pairs = [
            (self.boxes, other.boxes),
            (self.missing, other.missing),
            (self.maps, other.maps),
            (self.features, other.features),
        ]
        inside = np.isin(np.arange(len(self.boxes)), rows)
        return Cut(*(np.where(inside.reshape(-1, *[1] * (old.ndim - 1)), new, old) for old, new in pairs))


def cut_images(
    looking: Subject,
    pointing: Subject,
    data: LocalizationSet,
    place: Place,
    choose: Callable[[Tensor], Tensor],
    *,
    numbers: NDArray[np.int64],
    threshold: float,
    name: str,
    work: Work,
) -> Cut:
    """Box images by the maps of one network, cut them, and take the features of what is inside with another.

    Parameters
    ----------
    looking, pointing
        Features at ``place`` come from ``looking``; the map is of the class that ``choose`` takes from the logits of
        ``pointing``.
    numbers
        Which images.
    threshold
        Share of the map's maximum.
    name
        Ending of the checkpoints' names.
    """
    maps = class_maps(pointing, View(data.images, numbers), choose, f"maps{name}", work)["values"][:, 0]
    boxes, missing = boxes_of(maps, looking, data, numbers, threshold)
    found = gap_pass(looking, View(data.images, numbers, boxes), place, f"crops{name}", work)
    return Cut(*(scattered(rows, numbers, len(data)) for rows in (boxes, missing, maps, found)))


def boxes_of(
    maps: NDArray[np.float32], subject: Subject, data: LocalizationSet, numbers: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the box of each map ``(n, h, w)`` by the rule of `explain.locate`, ``(n, 4)`` in pixels of the image.

    Images whose map is nowhere positive get the whole image; the second result ``(n,)`` says which.
    """
    boxes, missing = np.zeros((len(maps), 4)), np.zeros(len(maps), np.bool_)
    for row, number in enumerate(numbers.tolist()):
        height, width = data.sizes[number]
        known = subject.preprocess if data.frame == "original" else None
        geometry = known.geometry((height, width)) if known is not None else None
        plane = image_maps(torch.from_numpy(maps[row])[None], geometry, (height, width))[0]
        box = box_of(plane, threshold)
        boxes[row], missing[row] = box or (0, 0, width, height), box is None
    return boxes, missing


def true_boxes(data: LocalizationSet) -> NDArray[np.float64] | None:
    """Return the largest box of each image ``(n, 4)``; None where an image has none."""
    if any(len(boxes) == 0 for boxes in data.boxes):
        return None
    sides = [boxes[:, 2:] - boxes[:, :2] for boxes in data.boxes]
    return np.stack([boxes[side.prod(1).argmax()] for boxes, side in zip(data.boxes, sides, strict=True)])
