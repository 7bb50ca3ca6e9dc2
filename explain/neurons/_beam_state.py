"""The beam search's operators, the layout of its rows, and its memory; see `explain.neurons._beam`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from explain.neurons._table import Table

__all__ = [
    "AND",
    "AND_NOT",
    "BEAM_CONCEPT",
    "BEAM_COUNT",
    "BEAM_MARKS",
    "BEAM_OP",
    "BEAM_PIXELS",
    "BEAM_SHARED",
    "BEAM_SLOT",
    "BEAM_WIDTH",
    "BUSY",
    "HEAD",
    "KEEP",
    "LEAF",
    "LENGTH",
    "MARK",
    "OR",
    "OR_NOT",
    "PIXELS",
    "ROWS",
    "SHARED",
    "WORDS",
    "Rules",
    "Work",
    "make_work",
]

OR, AND, AND_NOT, OR_NOT, LEAF, KEEP = range(6)
# A row of ``Work.slots`` and of the output: these, then one concept per leaf, then one operator per leaf. ``WORDS`` is
# the length in which the published code counts NOT.
LENGTH, SHARED, PIXELS, MARK, WORDS, BUSY, HEAD = range(7)
# Rows of ``Work.beam``; the count of formulas stands first in its own row. A formula that is new in the beam is told by
# the slot of its parent, an operator and a concept, until it gets a slot of its own.
BEAM_COUNT, BEAM_SHARED, BEAM_PIXELS, BEAM_MARKS, BEAM_SLOT, BEAM_OP, BEAM_CONCEPT, BEAM_WIDTH, ROWS = range(9)


class Rules(NamedTuple):
    """What the search may do."""

    operators: Any
    """OR, AND, AND NOT: 3; with OR NOT: 4."""
    published: Any
    """1: Mu & Andreas' code to the letter; see `explain.neurons.search.beam_search`."""
    limit: Any
    """Concepts that extensions may use: those with the best IoU of their own; 0: all."""
    penalties: Any
    """float64: the factor of a formula's IoU, by its length."""
    allowed: Any
    """uint8 ``(U, C)``: concepts that may be leaves; ``(0, C)``: all."""


class Work(NamedTuple):
    """Memory of one thread."""

    score: Any
    """float64 ``(B,)``: best first."""
    beam: Any
    """int64 ``(ROWS, B)``."""
    slots: Any
    """int64 ``(2B, HEAD + 2 length)``: room for the formulas of the old beam and the new one."""
    vectors: Any
    """int64 ``(3, 2B, C)``: W, V and H of each slot."""
    bits: Any
    """uint64 ``(2B, ceil(M / 64))``: the cells of each slot."""
    members: Any
    """uint8 ``(2B, K)``: which of the unit's own cells they are."""
    shared: Any
    """int64 ``(C,)``: the unit's pixels in each concept."""
    start: Any
    """int64 ``(C + 1,)``: where the unit's own cells of each concept begin in ``places``."""
    places: Any
    """int32: places in the unit's list of cells."""
    own_start: Any
    """int32 ``(K + 1,)``: where the concepts of the unit's own cells begin in ``own_labels``."""
    own_labels: Any
    """int32: the concepts of the unit's own cells, side by side."""
    chosen: Any
    """uint8 ``(C,)``: concepts that extensions may use."""


def make_work(table: Table, room: tuple[int, int], beam: int, length: int) -> Work:
    """Return the memory of one thread; ``room``: of `room_of`."""
    concepts, words = len(table.pixels), (len(table.records) - 1 + 63) // 64
    return Work(
        score=np.zeros(beam, np.float64),
        beam=np.zeros((ROWS, beam), np.int64),
        slots=np.zeros((2 * beam, HEAD + 2 * length), np.int64),
        vectors=np.zeros((3, 2 * beam, concepts), np.int64),
        bits=np.zeros((2 * beam, words), np.uint64),
        members=np.zeros((2 * beam, room[0]), np.uint8),
        shared=np.zeros(concepts, np.int64),
        start=np.zeros(concepts + 1, np.int64),
        places=np.empty(room[1], np.int32),
        own_start=np.zeros(room[0] + 1, np.int32),
        own_labels=np.empty(room[1], np.int32),
        chosen=np.zeros(concepts, np.uint8),
    )
