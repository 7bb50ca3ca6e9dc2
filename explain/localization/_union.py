"""The compiled part of the sweep: union-find over pixels that enter in falling order of level.

Masks are ``levels > t`` for t = 0 … count-1. Pixels lie in a frame at least one pixel wide, so that no neighbour has to
be checked against the border: pixel (y, x) is number ``((y + 1) << shift) + x + 1``, rows a power of two apart. A pixel
that enters looks at its eight neighbours once; their pattern, an 8-bit code, says by table whom to unite, how much
polygon area comes to the component and how its Euler number changes (`tables`).

Polygon area: OpenCV's ``contourArea`` is the area of the polygon through the centres of the border pixels. Over a 2 x 2
square of pixels it grows by one half with the third pixel and by another with the fourth, and all pixels of such a
square are neighbours, so that sums over squares are sums over components. A component without holes has exactly that
area; one with holes has more, and is traced where that could matter.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled

__all__ = [
    "EVENT",
    "Tables",
    "all_components",
    "all_holes",
    "largest_by_pixels",
    "largest_by_polygon",
    "levels_of",
    "tables",
]

EVENT = 8
"""Columns of an event: first and last threshold, x0, y0, x1, y1 (half-open), pixels, 1 for a hole."""

Tables = tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]

# Neighbours in counter-clockwise order: E, NE, N, NW, W, SW, S, SE; even numbers share an edge with the pixel.
_STEPS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
_SQUARES = ((0, 1, 2), (2, 3, 4), (4, 5, 6), (6, 7, 0))


@cache
def tables() -> Tables:
    """Return, for every code of neighbours: whom to unite ``(256, 4)``, twice the area, four times Euler's number."""
    joins = np.full((256, 4), -1, np.int8)
    areas, eulers = np.zeros(256, np.int8), np.zeros(256, np.int8)
    for code in range(256):
        present = [bool(code >> direction & 1) for direction in range(8)]
        joins[code, : len(_groups(present))] = _groups(present)
        for first, corner, second in _SQUARES:
            count = present[first] + present[corner] + present[second]
            areas[code] += count >= 2
            before = (0, 1, -2 if not present[corner] else 0, -1)[count]
            after = (1, -2 if present[corner] else 0, -1, 0)[count]
            eulers[code] += after - before
    return joins, areas, eulers


def _groups(present: list[bool]) -> list[int]:
    """Return one neighbour of each group of present ones that touch each other already."""
    left = [direction for direction in range(8) if present[direction]]
    found = []
    while left:
        found.append(left[0])
        group, pending = set(), [left[0]]
        while pending:
            one = pending.pop()
            group.add(one)
            (y, x) = _STEPS[one]
            for other in left:
                (v, u) = _STEPS[other]
                if other not in group and abs(y - v) <= 1 and abs(x - u) <= 1:
                    pending.append(other)
        left = [direction for direction in left if direction not in group]
    return found


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
def _shift(width: int) -> Any:
    """Return the power of two that rows with their frame fit in."""
    shift = 1
    while 1 << shift < width + 2:
        shift += 1
    return shift


@compiled
def _by_level(levels: NDArray[np.int32], count: int) -> Any:
    """Counting sort: numbers of the pixels by level, in raster order within one, and where each level begins."""
    height, width = levels.shape
    shift = _shift(width)
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
def _find(parent: NDArray[np.int32], pixel: int) -> Any:
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
def _offsets(stride: int) -> Any:
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
def _grow(pixel: int, root: int, shift: int, parent: NDArray[np.int32], state: NDArray[np.int32]) -> None:
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
def _begin(pixel: int, shift: int, parent: NDArray[np.int32], state: NDArray[np.int32]) -> None:
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
def _enter(
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
    offsets = _offsets(stride)
    for pixel in pixels:
        code = _code(present, pixel, stride)
        present[pixel] = 1
        if code == 0:
            _begin(pixel, shift, parent, state)
            active[n] = pixel
            n += 1
            continue
        root = _find(parent, pixel + offsets[joins[code, 0]])
        for place in range(1, 4):
            direction = joins[code, place]
            if direction < 0:
                break
            other = _find(parent, pixel + offsets[direction])
            if other != root:
                root = _unite(root, other, parent, state)
        _grow(pixel, root, shift, parent, state)
        state[root, 6] += areas[code]
        state[root, 7] += eulers[code]
    return n


@compiled
def _room(levels: NDArray[np.int32]) -> Any:
    """Return the arrays of a sweep: which pixels are in, their parents, the state of roots, a list for roots."""
    height, width = levels.shape
    size = (height + 2) << _shift(width)
    return (
        np.zeros(size, np.uint8),
        np.empty(size, np.int32),
        np.empty((size, _STATE), np.int32),
        np.empty(height * width, np.int32),
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _put(box: NDArray[np.int64], state: NDArray[np.int32], root: int) -> None:
    """Write a root's box, half-open, without the frame."""
    box[0] = state[root, 2] - 1
    box[1] = state[root, 3] - 1
    box[2] = state[root, 4]
    box[3] = state[root, 5]


@compiled
def largest_by_pixels(levels: NDArray[np.int32], count: int, given: Tables, boxes: NDArray[np.int64]) -> None:
    """Fill ``boxes[t]`` with the component of ``levels > t`` that has most pixels; ties: the first in raster order."""
    shift = _shift(levels.shape[1])
    order, starts = _by_level(levels, count)
    present, parent, state, active = _room(levels)
    n, best = 0, -1
    for level in range(count, 0, -1):
        pixels = order[starts[level] : starts[level + 1]]
        if len(pixels):
            n = _enter(pixels, shift, given, present, parent, state, active, n)
            best, n = _most_pixels(active, n, parent, state)
        if best >= 0:
            _put(boxes[level - 1], state, best)


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
    shift = _shift(levels.shape[1])
    order, starts = _by_level(levels, count)
    present, parent, state, active = _room(levels)
    n, best = 0, -1
    for level in range(count, 0, -1):
        pixels = order[starts[level] : starts[level + 1]]
        if len(pixels):
            n = _enter(pixels, shift, given, present, parent, state, active, n)
            best, n = _largest(active, n, present, parent, state, shift)
        if best >= 0:
            _put(boxes[level - 1], state, best)


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
    offsets = _offsets(1 << shift)
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


@compiled
def all_components(levels: NDArray[np.int32], count: int, given: Tables, events: NDArray[np.int32]) -> Any:
    """Write every component of every mask ``levels > t`` once for the thresholds at which it is the same.

    Returns the number of rows; `EVENT` says what is in one.
    """
    shift = _shift(levels.shape[1])
    order, starts = _by_level(levels, count)
    present, parent, state, active = _room(levels)
    n, written = 0, 0
    for level in range(count, 0, -1):
        pixels = order[starts[level] : starts[level + 1]]
        if len(pixels):
            n = _enter(pixels, shift, given, present, parent, state, active, n)
            n, written = _note(active, n, written, level, parent, state, events)
    return written


@compiled
def _note(
    active: NDArray[np.int32],
    n: int,
    written: int,
    level: int,
    parent: NDArray[np.int32],
    state: NDArray[np.int32],
    events: NDArray[np.int32],
) -> Any:
    """Write a row for each component that is new or grew; returns how many roots and rows there are."""
    kept = 0
    for place in range(n):
        root = active[place]
        last = state[root, 8]
        gone = parent[root] != root
        if not gone:
            active[kept] = root
            kept += 1
            if last >= 0 and events[last, 6] == state[root, 0]:
                continue
        if last >= 0:
            events[last, 0] = level
        if not gone:
            state[root, 8] = written
            events[written, 0] = 0
            events[written, 1] = level - 1
            events[written, 2] = state[root, 2] - 1
            events[written, 3] = state[root, 3] - 1
            events[written, 4] = state[root, 4]
            events[written, 5] = state[root, 5]
            events[written, 6] = state[root, 0]
            events[written, 7] = 0
            written += 1
    return kept, written


@compiled
def _fill(
    root: int,
    other: int,
    threshold: int,
    parent: NDArray[np.int32],
    state: NDArray[np.int32],
    events: NDArray[np.int32],
) -> Any:
    """Unite two components of the background and return the root; the outside, 0, swallows any."""
    if other == 0 or (root != 0 and state[other, 0] > state[root, 0]):
        root, other = other, root
    parent[other] = root
    if state[other, 8] >= 0:
        events[state[other, 8], 1] = threshold - 1
    if root != 0:
        state[root, 0] += state[other, 0]
        state[root, 2] = min(state[root, 2], state[other, 2])
        state[root, 3] = min(state[root, 3], state[other, 3])
        state[root, 4] = max(state[root, 4], state[other, 4])
        state[root, 5] = max(state[root, 5], state[other, 5])
    return root


@compiled
def _leave(
    pixels: NDArray[np.int32],
    threshold: int,
    shift: int,
    parent: NDArray[np.int32],
    state: NDArray[np.int32],
    stamps: NDArray[np.int32],
    touched: NDArray[np.int32],
    events: NDArray[np.int32],
) -> Any:
    """Give the pixels of a level to the background; returns how many roots but the outside were ``touched``."""
    stride, n = 1 << shift, 0
    steps = np.array([-1, -stride, 1, stride], np.int64)
    for pixel in pixels:
        root = -1
        for step in steps:
            beside = parent[pixel + step]
            if beside < 0 or beside == root:
                continue
            other = _find(parent, beside)
            if root < 0:
                root = other
            elif other != root:
                root = _fill(root, other, threshold, parent, state, events)
        if root == 0:
            parent[pixel] = 0
            continue
        if root < 0:
            _begin(pixel, shift, parent, state)
            stamps[pixel] = -1
            root = pixel
        else:
            _grow(pixel, root, shift, parent, state)
        if stamps[root] != threshold:
            stamps[root] = threshold
            touched[n] = root
            n += 1
    return n


@compiled
def all_holes(levels: NDArray[np.int32], count: int, events: NDArray[np.int32]) -> Any:
    """Write the border of every hole of every mask ``levels > t``, as `all_components` writes components.

    A hole is a 4-connected component of the background that does not reach the edge of the map; its border lies on the
    pixels around it, so its box is one pixel larger on each side.
    """
    height, width = levels.shape
    shift = _shift(width)
    order, starts = _by_level(levels, count)
    _, parent, state, touched = _room(levels)
    stamps = np.empty(parent.size, np.int32)
    # The frame is the outside, number 0, which swallows all that reaches it.
    parent[:] = -1
    frame = parent.reshape(height + 2, 1 << shift)
    frame[0] = 0
    frame[height + 1] = 0
    frame[:, 0] = 0
    frame[:, width + 1 :] = 0
    written = 0
    for threshold in range(count):
        pixels = order[starts[threshold] : starts[threshold + 1]]
        fresh = _leave(pixels, threshold, shift, parent, state, stamps, touched, events)
        for root in touched[:fresh]:
            if parent[root] != root:
                continue
            if state[root, 8] >= 0:
                events[state[root, 8], 1] = threshold - 1
            state[root, 8] = written
            events[written, 0] = threshold
            events[written, 1] = count - 1
            events[written, 2] = state[root, 2] - 2
            events[written, 3] = state[root, 3] - 2
            events[written, 4] = state[root, 4] + 1
            events[written, 5] = state[root, 5] + 1
            events[written, 6] = state[root, 0]
            events[written, 7] = 1
            written += 1
    return written
