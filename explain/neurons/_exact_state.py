"""The memory of a thread of `explain.neurons._exact`, and what the rows of its answer mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# ``best``: rows by length (1, 2, 3): intersection, pixels, three concepts, two operators.
SHARED, PIXELS, FIRST, SECOND, THIRD, OP1, OP2, FIELDS = range(8)


class ExactWork(NamedTuple):
    """Memory of one thread; all zero between units."""

    shared: Any
    """int64 ``(C, C)``: the unit's pixels that two concepts share; on the diagonal, of each."""
    gain: Any
    """float64 ``(C, C)``: T+ that two concepts share."""
    reach: Any
    """float64 ``(C,)``: the best T of a concept alone or with one more."""
    marked: Any
    """uint8 ``(M,)``: cells of one concept."""
    marked_own: Any
    """uint8 ``(K,)``: the unit's cells of one concept."""
    triple: Any
    """int64 ``(2, C)``: pixels, and the unit's pixels, that a pair shares with each concept."""
    start: Any
    """int64 ``(C + 1,)``: where the unit's own cells of each concept begin in ``places``."""
    places: Any
    """int32."""


def make_exact_work(concepts: int, cells: int, room: tuple[int, int]) -> ExactWork:
    """Return the memory of one thread; ``room``: the most cells, and (cell, concept) pairs, of any unit."""
    return ExactWork(
        shared=np.zeros((concepts, concepts), np.int64),
        gain=np.zeros((concepts, concepts), np.float64),
        reach=np.zeros(concepts, np.float64),
        marked=np.zeros(cells, np.uint8),
        marked_own=np.zeros(room[0], np.uint8),
        triple=np.zeros((2, concepts), np.int64),
        start=np.zeros(concepts + 1, np.int64),
        places=np.empty(room[1], np.int32),
    )
