"""Every component and every hole of every mask of a sweep, compiled, as events over ranges of thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled
from explain.localization._neighbours import Tables
from explain.localization._union import begin, by_level, enter, find, grow, room_for, shift_of

__all__ = ["EVENT", "all_components", "all_holes"]

EVENT = 8
"""Columns of an event: first and last threshold, x0, y0, x1, y1 (half-open), pixels, 1 for a hole."""


@compiled
def all_components(levels: NDArray[np.int32], count: int, given: Tables, events: NDArray[np.int32]) -> Any:
    """Write every component of every mask ``levels > t`` once for the thresholds at which it is the same.

    Returns the number of rows; `EVENT` says what is in one.
    """
    shift = shift_of(levels.shape[1])
    order, starts = by_level(levels, count)
    present, parent, state, active = room_for(levels)
    n, written = 0, 0
    for level in range(count, 0, -1):
        pixels = order[starts[level] : starts[level + 1]]
        if len(pixels):
            n = enter(pixels, shift, given, present, parent, state, active, n)
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
            other = find(parent, beside)
            if root < 0:
                root = other
            elif other != root:
                root = _fill(root, other, threshold, parent, state, events)
        if root == 0:
            parent[pixel] = 0
            continue
        if root < 0:
            begin(pixel, shift, parent, state)
            stamps[pixel] = -1
            root = pixel
        else:
            grow(pixel, root, shift, parent, state)
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
    shift = shift_of(width)
    order, starts = by_level(levels, count)
    _, parent, state, touched = room_for(levels)
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
