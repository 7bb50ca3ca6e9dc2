"""A unit's cells sorted by concept, for the compiled searches that go concept by concept."""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.compiling import inner

__all__ = ["sort_by_concept"]


@inner
def sort_by_concept(table: Any, own: Any, start: Any, places: Any) -> None:  # pragma: no cover - compiled
    """Fill ``start`` int64 ``(C + 1,)``, where each concept's cells begin in ``places``, places in ``own``, ascending.

    ``own``: the unit's cells.
    """
    concepts = len(table.pixels)
    for concept in range(concepts):
        start[concept] = 0
    for place in range(len(own)):
        for at in range(table.records[own[place], 0], table.records[own[place] + 1, 0]):
            start[table.indices[at]] += 1
    ends = np.int64(0)
    for concept in range(concepts):
        ends += start[concept]
        start[concept] = ends
    start[concepts] = ends
    for back in range(len(own)):
        place = len(own) - 1 - back
        for at in range(table.records[own[place], 0], table.records[own[place] + 1, 0]):
            start[table.indices[at]] -= 1
            places[start[table.indices[at]]] = place
