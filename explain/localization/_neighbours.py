"""What the pattern of a pixel's eight neighbours says of the pixel that enters a mask: looked up, not computed.

A pixel that enters looks at its eight neighbours once; their pattern, an 8-bit code, says by table whom to unite, how
much polygon area comes to the component and how its Euler number changes.

Polygon area: OpenCV's ``contourArea`` is the area of the polygon through the centres of the border pixels. Over a 2 x 2
square of pixels it grows by one half with the third pixel and by another with the fourth, and all pixels of such a
square are neighbours, so that sums over squares are sums over components. A component without holes has exactly that
area; one with holes has more, and is traced where that could matter.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tables", "tables"]

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
