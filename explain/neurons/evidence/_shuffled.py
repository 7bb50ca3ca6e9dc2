"""Counting one unit on the labels of many orders of the images: the compiled part of `chance`."""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.compiling import compiled

__all__ = ["count_orders"]


@compiled
def count_orders(
    begins: Any, pixels: Any, laid: Any, places: Any, scratch: Any, indptr: Any, cells: Any, counts: Any
) -> None:  # pragma: no cover - compiled
    """Count the active pixels per cell for each row of ``laid``.

    ``pixels[begins[p] : begins[p + 1]]`` are the active pixels of map p, ``laid`` ``(r, p)`` the image whose labels it
    lies on, ``places`` the arrays ``(local (N, pixels), start, lookup)`` of a `CellIndex`. Row r is written to
    ``cells`` and ``counts`` from ``indptr[r]`` to ``indptr[r + 1]``, in order of first sight. ``scratch`` int64
    ``(M,)`` is zero before and after.
    """
    local, start, lookup = places
    end = 0
    for row in range(laid.shape[0]):
        begin = end
        for place in range(laid.shape[1]):
            image = laid[row, place]
            labels, first = local[image], start[image]
            room = start[image + 1] - first
            for at in range(begins[place], begins[place + 1]):
                number = np.int64(labels[pixels[at]])
                if number < room:  # the largest value marks ignored pixels
                    cell = lookup[first + number]
                    if scratch[cell] == 0:
                        cells[end] = cell
                        end += 1
                    scratch[cell] += 1
        for at in range(begin, end):
            counts[at] = scratch[cells[at]]
            scratch[cells[at]] = 0
        indptr[row + 1] = end
