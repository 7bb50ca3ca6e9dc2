"""Slow and literal versions of what `explain.opencv` does: flood fill, and filling of outlines."""

from __future__ import annotations

import numpy as np


def flood_fill(mask):
    """Return the 8-connected components as lists of (row, column), in raster order of their first pixels."""
    height, width = mask.shape
    seen = np.zeros(mask.shape, dtype=bool)
    found = []
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        seen[start] = True
        component, waiting = [], [start]
        while waiting:
            y, x = waiting.pop()
            component.append((int(y), int(x)))
            for v in range(max(0, y - 1), min(height, y + 2)):
                for u in range(max(0, x - 1), min(width, x + 2)):
                    if mask[v, u] and not seen[v, u]:
                        seen[v, u] = True
                        waiting.append((v, u))
        found.append(component)
    return found


def box(component):
    """Return (x1, y1, x2, y2), half-open, of a list of (row, column)."""
    rows, columns = zip(*component, strict=True)
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def largest(mask):
    """Return the box of the component with most pixels; the first in raster order wins a tie."""
    best = None
    for component in flood_fill(mask):
        if best is None or len(component) > len(best):
            best = component
    return None if best is None else box(best)


def fill(paths, shape):
    """Fill closed paths: a pixel is inside if a ray to its left crosses an odd number of edges."""
    crossings = np.zeros(shape, dtype=int)
    for path in paths:
        for (x1, y1), (x2, y2) in zip(path, np.roll(path, -1, axis=0), strict=True):
            assert (x1 == x2) != (y1 == y2), "a step is horizontal or vertical, and not empty"
            if x1 == x2:
                crossings[min(y1, y2) : max(y1, y2), x1:] += 1
    return crossings % 2 == 1
