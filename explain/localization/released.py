"""The boxes of the CAM paper's released code (zhoubolei/CAM, ``bboxgenerator/dt_box.cpp``), with what it does unasked.

Three thresholds of the 8-bit map; each mask is eroded by its distance transform; all contours give boxes, cut off five
pixels before the right and lower edge; smaller boxes that overlap a larger one are dropped, but the loop steps over the
one after each that it drops.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explain import opencv

__all__ = ["LEVELS", "jpeg_grey", "released_boxes"]

LEVELS = (20, 100, 110)
"""``bbox_threshold`` of ILSVRC_evaluate_bbox.m, of 255."""
_EROSION = 10
_MARGIN = 5
_QUALITY = 75


def jpeg_grey(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a map within 0…1 as 8-bit grey, rounded, after MATLAB's ``imwrite`` to JPEG (quality 75) and back."""
    pixels = np.clip(np.floor(values * 255 + 0.5), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    with Image.open(buffer) as read:
        return np.asarray(read)


def released_boxes(grey: NDArray[np.uint8], levels: tuple[int, ...] = LEVELS) -> NDArray[np.int64]:
    """Return the boxes ``(n, 4)`` of an 8-bit map, largest first: ``x, y, x + width, y + height``, as in the code."""
    height, width = grey.shape
    rows: list[tuple[int, int, int, int]] = []
    for level in levels:
        for x, y, w, h in opencv.contour_boxes(_eroded(grey > level), border=False):
            rows.append(
                (
                    min(x, max(0, width - _MARGIN)),
                    min(y, max(0, height - _MARGIN)),
                    max(0, min(w, width - x - _MARGIN)),
                    max(0, min(h, height - y - _MARGIN)),
                )
            )
    rows.sort(key=lambda row: -row[2] * row[3])
    _drop_overlapping(rows)
    return np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.int64).reshape(-1, 4)


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Keep the pixels whose distance to the background, scaled so that the largest is 255, exceeds 10."""
    if mask.all() or not mask.any():
        return np.where(mask, np.uint8(255), np.uint8(0))
    distance = opencv.distance_to_background(mask)
    scaled = np.floor(distance * (255 / distance.max()) + 0.5).clip(0, 255).astype(np.uint8)
    return np.where(scaled > _EROSION, np.uint8(255), np.uint8(0))


def _drop_overlapping(rows: list[tuple[int, int, int, int]]) -> None:
    """Drop boxes that overlap a larger one by half of it, as ``mergeBBox`` does: the next is never looked at."""
    first = 0
    while first < len(rows):
        second = first + 1
        while second < len(rows):
            if _overlap(rows[first], rows[second]):
                del rows[second]
            second += 1
        first += 1


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    limit = int(max(a[2] * a[3], b[2] * b[3]) * 0.5)
    width = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return width * height > limit
