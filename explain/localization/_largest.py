"""The largest component of every mask of a sweep, compiled: by pixels, or by polygon as OpenCV measures it."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled
from explain.localization._neighbours import Tables
from explain.localization._union import by_level, enter, offsets_of, put_box, room_for, shift_of

__all__ = ["largest_by_pixels", "largest_by_polygon"]


@compiled
def largest_by_pixels(levels: NDArray[np.int32], count: int, given: Tables, boxes: NDArray[np.int64]) -> None:
    """Fill ``boxes[t]`` with the component of ``levels > t`` that has most pixels; ties: the first in raster order."""
    shift = shift_of(levels.shape[1])
    order, starts = by_level(levels, count)
    present, parent, state, active = room_for(levels)
    n, best = 0, -1
    for level in range(count, 0, -1):
        pixels = order[starts[level] : starts[level + 1]]
        if len(pixels):
            n = enter(pixels, shift, given, present, parent, state, active, n)
            best, n = _most_pixels(active, n, parent, state)
        if best >= 0:
            put_box(boxes[level - 1], state, best)


@compiled
def _most_pixels(active: NDArray[np.int32], n: int, parent: NDArray[np.int32], state: NDArray[np.int32]) -> Any:
    """Return the root with most pixels, and how many roots are left in ``active``."""
    kept, best = 0, -1
    for place in range(n):
        root = active[place]
        if parent[root] != root:
            continue
        active[kept] = root
        kept += 1
        larger = best < 0 or state[root, 0] > state[best, 0]
        if larger or (state[root, 0] == state[best, 0] and state[root, 1] < state[best, 1]):
            best = root
    return best, kept


@compiled
def largest_by_polygon(levels: NDArray[np.int32], count: int, given: Tables, boxes: NDArray[np.int64]) -> None:
    """Fill ``boxes[t]`` as ``max(findContours(levels > t), key=contourArea)`` does; ties: the last in raster order."""
    shift = shift_of(levels.shape[1])
    order, starts = by_level(levels, count)
    present, parent, state, active = room_for(levels)
    n, best = 0, -1
    for level in range(count, 0, -1):
        pixels = order[starts[level] : starts[level + 1]]
        if len(pixels):
            n = enter(pixels, shift, given, present, parent, state, active, n)
            best, n = _largest(active, n, present, parent, state, shift)
        if best >= 0:
            put_box(boxes[level - 1], state, best)


@compiled
def _largest(
    active: NDArray[np.int32],
    n: int,
    present: NDArray[np.uint8],
    parent: NDArray[np.int32],
    state: NDArray[np.int32],
    shift: int,
) -> Any:
    """Return the root of the largest polygon, and how many roots are left in ``active``."""
    kept, best, top = 0, -1, -1
    for place in range(n):
        root = active[place]
        if parent[root] != root:
            continue
        active[kept] = root
        kept += 1
        area = state[root, 6]
        if area > top or (area == top and state[root, 1] > state[best, 1]):
            best, top = root, area
    rivals, holed = 0, False
    for place in range(kept):
        root = active[place]
        if _bound(state, root) >= top:
            rivals += 1
            holed |= state[root, 7] != 4
    if rivals < 2 or not holed:
        return best, kept
    best, top = -1, -1
    for place in range(kept):
        root = active[place]
        if _bound(state, root) < top:
            continue
        area = state[root, 6] if state[root, 7] == 4 else _traced_area(state[root, 1], present, shift)
        if area > top or (area == top and state[root, 1] > state[best, 1]):
            best, top = root, area
    return best, kept


@numba.njit(cache=True, nogil=True, inline="always")
def _bound(state: NDArray[np.int32], root: int) -> Any:
    """Return what twice the polygon area of a component is at most."""
    if state[root, 7] == 4:
        return state[root, 6]
    return 2 * (state[root, 4] - state[root, 2]) * (state[root, 5] - state[root, 3])


@compiled
def _traced_area(start: int, present: NDArray[np.uint8], shift: int) -> Any:
    """Return twice the area of a component's outer border (Suzuki and Abe 1985, algorithm 1), from its first pixel."""
    offsets = offsets_of(1 << shift)
    first = -1
    for turn in range(8):  # clockwise from the west
        direction = (12 - turn) & 7
        if present[start + offsets[direction]]:
            first = direction
            break
    if first < 0:
        return 0
    here, came, double_area = start, first, 0
    mask = (1 << shift) - 1
    while True:
        direction = came
        for _ in range(8):  # counter-clockwise, from just after the pixel come from
            direction = (direction + 1) & 7
            if present[here + offsets[direction]]:
                break
        there = here + offsets[direction]
        double_area += (here & mask) * (there >> shift) - (there & mask) * (here >> shift)
        if there == start and here == start + offsets[first]:
            return abs(double_area)
        here, came = there, (direction + 4) & 7
