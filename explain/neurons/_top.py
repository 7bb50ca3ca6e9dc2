"""The compiled inner loop of `explain.neurons.thresholds`: keep the largest values of each unit.

Arguments are `Any` because numba gives them their types.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.compiling import compiled

__all__ = ["compact_rows", "take_values"]


@compiled
def take_values(maps: Any, rows: Any, values: Any, fill: Any, bound: Any, keep: int, begin: int, end: int) -> Any:
    """Append the values of ``maps`` (b, n, p) that exceed their unit's bound, for units ``rows[begin:end]``.

    A full row of ``values`` (u, r) is cut down to its ``keep`` largest, which raises the bound. Returns the first
    unit with NaN, or -1.
    """
    wrong = np.int64(-1)
    for at in range(begin, end):
        unit = rows[at]
        limit, filled = bound[unit], fill[unit]
        for image in range(maps.shape[0]):
            for place in range(maps.shape[2]):
                value = maps[image, at, place]
                if value <= limit:
                    continue
                if value != value:
                    if wrong < 0:
                        wrong = unit
                    continue
                values[unit, filled] = value
                filled += 1
                if filled == values.shape[1] or (filled == keep and limit == -np.inf):
                    limit = select(values, unit, filled, keep)
                    filled = keep
        bound[unit], fill[unit] = limit, filled
    return wrong


@compiled
def compact_rows(values: Any, fill: Any, bound: Any, keep: int, begin: int, end: int) -> None:
    """Cut rows with at least ``keep`` values down to the ``keep`` largest, and raise their bounds."""
    for unit in range(begin, end):
        if fill[unit] >= keep:
            bound[unit] = select(values, unit, fill[unit], keep)
            fill[unit] = keep


@compiled
def select(values: Any, row: int, count: int, keep: int) -> Any:
    """Move the ``keep`` largest of ``values[row, :count]`` to the front; return the smallest of them (Hoare 1961)."""
    low, high, last = np.int64(0), count - 1, keep - 1
    while low < high:
        middle = (low + high) // 2
        a, b, c = values[row, low], values[row, middle], values[row, high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while values[row, i] > pivot:
                i += 1
            while values[row, j] < pivot:
                j -= 1
            if i <= j:
                values[row, i], values[row, j] = values[row, j], values[row, i]
                i += 1
                j -= 1
        if last <= j:
            high = j
        elif last >= i:
            low = i
        else:
            break
    least = values[row, 0]
    for place in range(keep):
        least = min(least, values[row, place])
    return least
