"""The memory of a thread of `explain.neurons._deep`, and what its fields mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# Rows of ``path``: the concept and operator that came last, which children come next and how many there are, the rank
# that the next concept of the same run must exceed, and the rank of the first concept while it counts in a run of AND.
CONCEPT, OP, NEXT, COUNT, LAST, FIRST, PATH = range(7)
# ``facts`` of a prefix, and of a concept: T, T+, active pixels, pixels.
T, PLUS, OWN, PIXELS, GAIN, ROOT, FACTS = range(7)
DEPTH, LEAF, NODES, EFFORT, PHASE, STATE = range(6)
# ``PHASE``, for the caller to set: a new unit, a new level, or the same one.
NEW_UNIT, NEW_LEVEL, SAME_LEVEL = range(3)
BEST = 3
"""Where concepts begin in a row of the best formula: after its intersection, pixels and length; then its operators."""
NEW_RUN = -1


class DeepWork(NamedTuple):
    """Memory of one thread: L is the length asked for, K the unit's cells."""

    square: Any
    """float64 ``(2, C, C)``: the unit's pixels, and the T+, that two concepts share."""
    single: Any
    """float64 ``(4, C)``: the facts of each concept."""
    vectors: Any
    """float64 ``(L, 3, C)``: active pixels, pixels and T+ that a prefix shares with each concept."""
    facts: Any
    """float64 ``(L, 4)``: of each prefix."""
    reach: Any
    """float64 ``(L, C)``: a bound on T of what begins with a concept and has r more."""
    tops: Any
    """float64 ``(L,)``: the sum of the r largest T+ of concepts."""
    order: Any
    """int64 ``(2, C)``: concepts by falling active pixels, and the rank of each: the order within a run."""
    covers: Any
    """float64 ``(L + 1, C)``: the sum of the r largest T- that others share with a concept."""
    sums: Any
    """float64 ``(L, 2, L + 1)``: of each prefix: the sums of the r largest T+ outside, and T- inside."""
    bounds: Any
    """float64 ``(3, C)``: of the extensions of a prefix."""
    bits: Any
    """uint64 ``(L, ceil(M / 64))``: the cells of each prefix."""
    members: Any
    """uint8 ``(L, K)``: which of the unit's own cells they are."""
    positive: Any
    """float64 ``(K,)``: positive t."""
    start: Any
    """int64 ``(C + 1,)``: where the unit's own cells of each concept begin in ``places``."""
    places: Any
    """int32."""
    path: Any
    """int64 ``(L, PATH)``."""
    children: Any
    """int64 ``(L, 3 C)``: concept and operator of what is to be followed."""
    limits: Any
    """float64 ``(L, 3 C)``: their bounds."""
    state: Any
    """int64: depth, leaves done, prefixes counted, effort, phase."""


def make_deep_work(concepts: int, cells: int, room: tuple[int, int], length: int) -> DeepWork:
    """Return the memory of one thread; ``room``: the most cells, and (cell, concept) pairs, of any unit."""
    return DeepWork(
        square=np.zeros((2, concepts, concepts), np.float64),
        single=np.zeros((GAIN, concepts), np.float64),
        vectors=np.zeros((length, 3, concepts), np.float64),
        facts=np.zeros((length, FACTS), np.float64),
        reach=np.zeros((length, concepts), np.float64),
        tops=np.zeros(length + 1, np.float64),
        order=np.zeros((2, concepts), np.int64),
        covers=np.zeros((length + 1, concepts), np.float64),
        sums=np.zeros((length, 2, length + 1), np.float64),
        bounds=np.zeros((3, concepts), np.float64),
        bits=np.zeros((length, (cells + 63) // 64), np.uint64),
        members=np.zeros((length, room[0]), np.uint8),
        positive=np.zeros(room[0], np.float64),
        start=np.zeros(concepts + 1, np.int64),
        places=np.empty(room[1], np.int32),
        path=np.zeros((length, PATH), np.int64),
        children=np.zeros((length, 3 * concepts), np.int64),
        limits=np.zeros((length, 3 * concepts), np.float64),
        state=np.zeros(STATE, np.int64),
    )
