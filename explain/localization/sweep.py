"""The box of the largest component at every threshold of a map, in one pass.

Pixels enter in falling order of value; a union-find over 8-neighbours keeps box, size and first pixel of each
component. After the pixels above a threshold are in, its largest component is known: no mask is ever made, and
the cost does not depend on the number of thresholds. Same rule as `explain.locate`: most pixels, ties raster-first.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError

__all__ = ["threshold_sweep"]


def threshold_sweep(maps: Tensor, thresholds: Tensor, *, workers: int = 1) -> Tensor:
    """Return the largest component's box of every map at every threshold.

    Parameters
    ----------
    maps
        ``(n, h, w)``, raw; a map is thresholded at ``> t * max``, compared in the maps' own precision.
    thresholds
        ``(t,)``, rising, ``0 <= t < 1``.
    workers
        Threads over maps (the kernel releases the GIL).

    Returns
    -------
    Tensor
        int64 ``(n, t, 4)``, half-open ``xyxy`` in pixels of the map; zeros where there is no box.

    Raises
    ------
    InputError
        Thresholds that do not rise within [0, 1), maps of a wrong shape, with NaN or infinity.
    """
    if maps.ndim != 3:
        raise InputError(f"maps of shape {tuple(maps.shape)}: threshold_sweep needs (n, h, w)")
    if thresholds.ndim != 1 or len(thresholds) == 0 or not bool((thresholds >= 0).all() & (thresholds < 1).all()):
        raise InputError("thresholds must be a rising list of shares of the maximum, 0 <= t < 1")
    if not bool((thresholds[1:] > thresholds[:-1]).all()):
        raise InputError("thresholds must rise strictly")
    if not bool(maps.isfinite().all()):
        raise InputError("a map holds NaN or infinity: it cannot be thresholded")
    values = maps.detach().float().cpu()
    shares = thresholds.detach().to("cpu", torch.float32)
    boxes = np.zeros((len(values), len(shares), 4), dtype=np.int64)

    def one(index: int) -> None:
        plane = values[index]
        top = plane.max()
        if not top > 0:
            return
        # The same float32 product and comparison as `value > t * max` pixel by pixel: levels count thresholds below.
        levels = torch.bucketize(plane, shares * top, right=False).numpy()
        _sweep(levels.astype(np.int32), len(shares), boxes[index])

    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, range(len(values))))
    else:
        for index in range(len(values)):
            one(index)
    return torch.from_numpy(boxes)


@numba.njit(cache=True, nogil=True)
def _find(parent: NDArray[np.int32], pixel: int) -> Any:
    """Return the root of a pixel's component, halving the path to it."""
    while parent[pixel] != pixel:
        parent[pixel] = parent[parent[pixel]]
        pixel = parent[pixel]
    return pixel


@numba.njit(cache=True, nogil=True)
def _join(parent: NDArray[np.int32], state: NDArray[np.int32], a: int, b: int) -> Any:
    """Unite two roots, the larger one stays; state rows are size, first pixel, x0, y0, x1, y1 (inclusive)."""
    if state[a, 0] < state[b, 0]:
        a, b = b, a
    parent[b] = a
    state[a, 0] += state[b, 0]
    state[a, 1] = min(state[a, 1], state[b, 1])
    state[a, 2] = min(state[a, 2], state[b, 2])
    state[a, 3] = min(state[a, 3], state[b, 3])
    state[a, 4] = max(state[a, 4], state[b, 4])
    state[a, 5] = max(state[a, 5], state[b, 5])
    return a


@numba.njit(cache=True, nogil=True)
def _by_level(flat: NDArray[np.int32], count: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Counting sort: pixels by level, in raster order within one, and where each level begins."""
    starts = np.zeros(count + 2, np.int64)
    for level in flat:
        starts[level + 1] += 1
    starts = np.cumsum(starts)
    order = np.empty(flat.size, np.int32)
    fill = starts.copy()
    for pixel in range(flat.size):
        order[fill[flat[pixel]]] = pixel
        fill[flat[pixel]] += 1
    return order, starts


@numba.njit(cache=True, nogil=True)
def _enter(pixel: int, height: int, width: int, parent: NDArray[np.int32], state: NDArray[np.int32]) -> Any:
    """Let a pixel in, unite it with its neighbours that are in, and return the root of its component."""
    y, x = pixel // width, pixel % width
    parent[pixel] = pixel
    state[pixel, 0] = 1
    state[pixel, 1] = pixel
    state[pixel, 2] = state[pixel, 4] = x
    state[pixel, 3] = state[pixel, 5] = y
    root = pixel
    for row in range(max(y - 1, 0), min(y + 2, height)):
        for column in range(max(x - 1, 0), min(x + 2, width)):
            other = row * width + column
            if parent[other] >= 0:
                found = _find(parent, other)
                if found != root:
                    root = _join(parent, state, root, found)
    return root


@numba.njit(cache=True, nogil=True)
def _sweep(levels: NDArray[np.int32], count: int, boxes: NDArray[np.int64]) -> None:
    """Fill ``boxes[t]`` for masks ``levels > t``; ``levels`` = number of thresholds that lie below the pixel."""
    height, width = levels.shape
    order, starts = _by_level(levels.ravel(), count)
    parent = np.full(levels.size, -1, np.int32)
    state = np.empty((levels.size, 6), np.int32)
    best = -1
    for level in range(count, 0, -1):
        for place in range(starts[level], starts[level + 1]):
            root = _enter(order[place], height, width, parent, state)
            # Components only grow, so the largest so far is beaten only by one that was just touched. Of a tie, the
            # one that starts first wins; the champion itself may have been swallowed.
            best = root if best < 0 else _find(parent, best)
            larger = state[root, 0] > state[best, 0]
            if larger or (state[root, 0] == state[best, 0] and state[root, 1] < state[best, 1]):
                best = root
        if best >= 0:
            boxes[level - 1, 0] = state[best, 2]
            boxes[level - 1, 1] = state[best, 3]
            boxes[level - 1, 2] = state[best, 4] + 1
            boxes[level - 1, 3] = state[best, 5] + 1
