"""IoU of boxes with the best of an image's published boxes, compiled: for lists of boxes, and for swept components."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled

__all__ = ["best_iou", "curve_of_boxes", "curve_of_components"]


@numba.njit(cache=True, nogil=True, inline="always")
def best_iou(x0: float, y0: float, x1: float, y1: float, truth: NDArray[np.float64], plus: float) -> Any:
    """Return the IoU of a box with the best of ``truth`` ``(m, 4)``; ``plus`` 1 counts the last row and column."""
    best = 0.0
    area = (x1 - x0 + plus) * (y1 - y0 + plus)
    for one in range(truth.shape[0]):
        width = min(x1, truth[one, 2]) - max(x0, truth[one, 0]) + plus
        height = min(y1, truth[one, 3]) - max(y0, truth[one, 1]) + plus
        if width <= 0 or height <= 0:
            continue
        shared = width * height
        union = area + (truth[one, 2] - truth[one, 0] + plus) * (truth[one, 3] - truth[one, 1] + plus) - shared
        if union > 0:
            best = max(best, shared / union)
    return best


@compiled
def curve_of_boxes(boxes: NDArray[np.float64], truth: NDArray[np.float64], plus: float) -> Any:
    """Return the IoU ``(t,)`` of each of the boxes ``(t, 4)`` with the best of ``truth``."""
    found = np.empty(len(boxes), np.float64)
    for t in range(len(boxes)):
        found[t] = best_iou(boxes[t, 0], boxes[t, 1], boxes[t, 2], boxes[t, 3], truth, plus)
    return found


@compiled
def curve_of_components(
    boxes: NDArray[np.float64],
    spans: NDArray[np.int64],
    count: int,
    truth: NDArray[np.float64],
    plus: float,
    empty: float,
) -> Any:
    """Return, for masks 0 … count-1, the best IoU of any component; ``empty`` where there is none.

    ``spans`` ``(m, 2)``: the first and last mask that each of the ``boxes`` ``(m, 4)`` is in.
    """
    found = np.full(count, -1.0)
    for row in range(len(boxes)):
        iou = best_iou(boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3], truth, plus)
        for t in range(spans[row, 0], spans[row, 1] + 1):
            found[t] = max(found[t], iou)
    for t in range(count):
        if found[t] < 0:
            found[t] = empty
    return found
