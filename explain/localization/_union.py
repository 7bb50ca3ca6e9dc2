"""Union-find over pixels that enter in falling order of level: what all compiled sweeps are made of.

Masks are ``levels > t`` for t = 0 … count-1. Pixels lie in a frame at least one pixel wide, so that no neighbour has to
be checked against the border: pixel (y, x) is number ``((y + 1) << shift) + x + 1``, rows a power of two apart. What a
pixel's neighbours mean stands in `explain.localization._neighbours`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled
from explain.localization._neighbours import Tables

__all__ = ["begin", "by_level", "enter", "find", "grow", "levels_of", "offsets_of", "put_box", "room_for", "shift_of"]


@compiled
def levels_of(plane: NDArray[Any], limits: NDArray[Any]) -> Any:
    """Return how many of the rising ``limits`` ``(t,)`` lie below each value of a plane, int32 ``(h, w)``.

    The first guess takes limits for evenly spaced; comparisons with them, in their own precision, decide.
    """
    height, width = plane.shape
    count, last = len(limits), limits[-1]
    found = np.empty((height, width), np.int32)
    span = last - limits[0]
    scale = (count - 1) / span if span > 0 else 0.0
    for y in range(height):
        for x in range(width):
            value = plane[y, x]
            if value > last:
                found[y, x] = count
                continue
            level = min(count - 1, max(0, int((value - limits[0]) * scale)))
            while level > 0 and not value > limits[level - 1]:
                level -= 1
            while value > limits[level]:
                level += 1
            found[y, x] = level
    return found


@compiled
def shift_of(width: int) -> Any:
    """Return the power of two that rows with their frame fit in."""
    shift = 1
    while 1 << shift < width + 2:
        shift += 1
    return shift


@compiled
def by_level(levels: NDArray[np.int32], count: int) -> Any:
    """Counting sort: numbers of the pixels by level, in raster order within one, and where each level begins."""
    height, width = levels.shape
    shift = shift_of(width)
    starts = np.zeros(count + 2, np.int64)
    for y in range(height):
        for x in range(width):
            starts[levels[y, x] + 1] += 1
    for level in range(count + 1):
        starts[level + 1] += starts[level]
    fill = starts.copy()
    order = np.empty(height * width, np.int32)
    for y in range(height):
        for x in range(width):
            level = levels[y, x]
            order[fill[level]] = ((y + 1) << shift) + x + 1
            fill[level] += 1
    return order, starts


@numba.njit(cache=True, nogil=True, inline="always")
def find(parent: NDArray[np.int32], pixel: int) -> Any:
    """Return the root of a pixel's component, halving the path to it."""
    above = parent[pixel]
    while above != pixel:
        further = parent[above]
        parent[pixel] = further
        pixel = above
        above = further
    return pixel


@numba.njit(cache=True, nogil=True, inline="always")
def _code(present: NDArray[np.uint8], pixel: int, stride: int) -> Any:
    """Return which of a pixel's neighbours are in; without branches, which could not be foretold."""
    return (
        present[pixel + 1]
        | present[pixel - stride + 1] << 1
        | present[pixel - stride] << 2
        | present[pixel - stride - 1] << 3
        | present[pixel - 1] << 4
        | present[pixel + stride - 1] << 5
        | present[pixel + stride] << 6
        | present[pixel + stride + 1] << 7
    )


@compiled
def offsets_of(stride: int) -> Any:
    return np.array([1, 1 - stride, -stride, -1 - stride, -1, stride - 1, stride, stride + 1], np.int64)


# State of a root: pixels, first pixel, x0, y0, x1, y1 (inclusive, in the frame), twice the area, 4 x Euler's number,
# and the last row written of it.
_STATE = 9


@compiled
def _unite(one: int, other: int, parent: NDArray[np.int32], state: NDArray[np.int32]) -> Any:
    """Unite two roots and return the one that stays, the larger."""
    if state[other, 0] > state[one, 0]:
        one, other = other, one
    parent[other] = one
    state[one, 0] += state[other, 0]
    state[one, 1] = min(state[one, 1], state[other, 1])
    state[one, 2] = min(state[one, 2], state[other, 2])
    state[one, 3] = min(state[one, 3], state[other, 3])
    state[one, 4] = max(state[one, 4], state[other, 4])
    state[one, 5] = max(state[one, 5], state[other, 5])
    state[one, 6] += state[other, 6]
    state[one, 7] += state[other, 7]
    return one


@numba.njit(cache=True, nogil=True, inline="always")
def grow(pixel: int, root: int, shift: int, parent: NDArray[np.int32], state: NDArray[np.int32]) -> None:
    """Let a pixel into a component. Its box seldom grows, so comparing is cheaper than writing."""
    parent[pixel] = root
    state[root, 0] += 1
    y, x = pixel >> shift, pixel & ((1 << shift) - 1)
    if pixel < state[root, 1]:
        state[root, 1] = pixel
    if x < state[root, 2]:
        state[root, 2] = x
    if y < state[root, 3]:
        state[root, 3] = y
    if x > state[root, 4]:
        state[root, 4] = x
    if y > state[root, 5]:
        state[root, 5] = y


@numba.njit(cache=True, nogil=True, inline="always")
def begin(pixel: int, shift: int, parent: NDArray[np.int32], state: NDArray[np.int32]) -> None:
    """Let a pixel in that has no neighbours: a component of its own."""
    y, x = pixel >> shift, pixel & ((1 << shift) - 1)
    parent[pixel] = pixel
    state[pixel, 0] = 1
    state[pixel, 1] = pixel
    state[pixel, 2] = x
    state[pixel, 3] = y
    state[pixel, 4] = x
    state[pixel, 5] = y
    state[pixel, 6] = 0
    state[pixel, 7] = 4
    state[pixel, 8] = -1


@compiled
def enter(
    pixels: NDArray[np.int32],
    shift: int,
    given: Tables,
    present: NDArray[np.uint8],
    parent: NDArray[np.int32],
    state: NDArray[np.int32],
    active: NDArray[np.int32],
    n: int,
) -> Any:
    """Let the pixels of a level in; returns how many roots there are in ``active``, some of them swallowed.

    The loop is in here because a call per pixel would count references to all these arrays.
    """
    joins, areas, eulers = given
    stride = 1 << shift
    offsets = offsets_of(stride)
    for pixel in pixels:
        code = _code(present, pixel, stride)
        present[pixel] = 1
        if code == 0:
            begin(pixel, shift, parent, state)
            active[n] = pixel
            n += 1
            continue
        root = find(parent, pixel + offsets[joins[code, 0]])
        for place in range(1, 4):
            direction = joins[code, place]
            if direction < 0:
                break
            other = find(parent, pixel + offsets[direction])
            if other != root:
                root = _unite(root, other, parent, state)
        grow(pixel, root, shift, parent, state)
        state[root, 6] += areas[code]
        state[root, 7] += eulers[code]
    return n


@compiled
def room_for(levels: NDArray[np.int32]) -> Any:
    """Return the arrays of a sweep: which pixels are in, their parents, the state of roots, a list for roots."""
    height, width = levels.shape
    size = (height + 2) << shift_of(width)
    return (
        np.zeros(size, np.uint8),
        np.empty(size, np.int32),
        np.empty((size, _STATE), np.int32),
        np.empty(height * width, np.int32),
    )


@numba.njit(cache=True, nogil=True, inline="always")
def put_box(box: NDArray[np.int64], state: NDArray[np.int32], root: int) -> None:
    """Write a root's box, half-open, without the frame."""
    box[0] = state[root, 2] - 1
    box[1] = state[root, 3] - 1
    box[2] = state[root, 4]
    box[3] = state[root, 5]
