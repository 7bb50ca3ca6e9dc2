"""The compiled beam search over the table of cells; `explain.neurons.search` is its face.

Two vectors per formula g score all its extensions: ``W[c] = n(g and c)`` (pixels) and ``V[c] = a(g and c)``
(active pixels). All of it is int64; only the score is float64, from one division. Which cells a formula
holds is a row of bits, so that two formulas with equal counts are compared cell by cell, without hashes.

Arguments are `Any` because numba gives them their types. Plain loops over indices and few, larger arrays
keep the compiler's own time low (whole-row assignments triple it), and so does ``np.int64(0)`` for a bare 0,
for which numba compiles a function anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

__all__ = [
    "AND_NOT",
    "HEAD",
    "LENGTH",
    "OR",
    "PIXELS",
    "SHARED",
    "Table",
    "Work",
    "fill_tables",
    "search_units",
]

OR, AND, AND_NOT, _LEAF, _KEEP = range(5)
# A row of ``Work.slots`` and of the output: these, then one concept per leaf, then one operator per leaf.
LENGTH, SHARED, PIXELS, _BUSY, HEAD = range(5)
# Rows of ``Work.beam``; the count of formulas stands first in its own row. A formula that is new in the beam
# is told by the slot of its parent, an operator and a concept, until it gets a slot of its own.
_COUNT, _SHARED, _PIXELS, _SLOT, _OP, _CONCEPT = range(6)


class Table(NamedTuple):
    """The table of cells; int64 but for ``bits``."""

    indptr: Any
    indices: Any
    start: Any
    rows: Any
    weights: Any
    """``(M,)``: pixels of each cell."""
    pixels: Any
    """``(C,)``: pixels of each concept."""
    candidates: Any
    """Concepts that may be used, ascending."""
    overlap: Any
    """``(C, C)``: pixels that two concepts share."""
    bits: Any
    """uint64 ``(C, ceil(M / 64))``: the cells of each concept."""


class Work(NamedTuple):
    """Memory of one thread."""

    score: Any
    """float64 ``(B,)``: best first."""
    beam: Any
    """int64 ``(6, B)``."""
    slots: Any
    """int64 ``(2B, HEAD + 2 length)``: room for the formulas of the old beam and the new one."""
    vectors: Any
    """int64 ``(2, 2B, C)``: W and V of each slot."""
    bits: Any
    """uint64 ``(2B, ceil(M / 64))``."""
    per_cell: Any
    """int64 ``(M,)``: the unit's pixels; zero between units."""
    per_concept: Any
    """int64 ``(C,)``: the unit's pixels."""


@njit(cache=True, nogil=True)
def fill_tables(indptr: Any, indices: Any, weights: Any, overlap: Any, bits: Any) -> None:
    """Add up ``overlap`` and set ``bits`` of a `Table`."""
    for cell in range(len(weights)):
        for at in range(indptr[cell], indptr[cell + 1]):
            one = indices[at]
            bits[one, cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)
            for to in range(indptr[cell], indptr[cell + 1]):
                overlap[one, indices[to]] += weights[cell]


@njit(cache=True, nogil=True)
def search_units(table: Any, work: Any, units: Any, begin: int, end: int, output: Any) -> None:
    """Search the units ``begin … end - 1`` of ``units = (indptr, cells, counts, active)``.

    ``output`` int64 ``(U, B + length, HEAD + 2 length)``: rows 0…B-1 of a unit are its final beam, then comes
    one row for the best after each round; rows of length 0 are empty.
    """
    indptr, cells, counts, active = units
    beam = len(work.score)
    length = output.shape[1] - beam
    for unit in range(begin, end):
        own = cells[indptr[unit] : indptr[unit + 1]]
        for place in range(len(own)):
            work.per_cell[own[place]] = counts[indptr[unit] + place]
        _reset(table, work, own)
        for round_ in range(length):
            _offer_all(table, work, active[unit], round_)
            _settle(table, work, own, round_ + 1, round_ + 1 < length)
            if work.beam[_COUNT, 0] > 0:
                _write(output, unit, beam + round_, work.slots, work.beam[_SLOT, 0])
        for place in range(work.beam[_COUNT, 0]):
            _write(output, unit, place, work.slots, work.beam[_SLOT, place])
        for place in range(len(own)):
            work.per_cell[own[place]] = 0


@njit(cache=True, nogil=True)
def _reset(table: Any, work: Any, own: Any) -> None:
    """Empty the beam and count the unit's pixels per concept."""
    work.beam[_COUNT, 0] = 0
    for slot in range(len(work.slots)):
        work.slots[slot, _BUSY] = 0
    for concept in range(len(work.per_concept)):
        work.per_concept[concept] = 0
    for place in range(len(own)):
        cell = own[place]
        for at in range(table.indptr[cell], table.indptr[cell + 1]):
            work.per_concept[table.indices[at]] += work.per_cell[cell]


@njit(cache=True, nogil=True)
def _offer_all(table: Any, work: Any, active: int, round_: int) -> None:
    """Offer single concepts in round 0, then all extensions of the formulas that came in last.

    Older ones need not be extended again: what they gave lost against formulas that are still better now.
    """
    if round_ == 0:
        slot: Any = np.int64(0)
        op: Any = np.int64(_LEAF)
        for at in range(len(table.candidates)):
            concept = table.candidates[at]
            shared, pixels = work.per_concept[concept], table.pixels[concept]
            if _hopeful(work, shared, pixels, active):
                _offer(table, work, shared, pixels, active, slot, op, concept)
        return
    count = work.beam[_COUNT, 0]
    parents = np.empty(count, np.int64)
    for place in range(count):
        parents[place] = work.beam[_SLOT, place]
        work.beam[_OP, place] = _KEEP
    for place in range(count):
        if work.slots[parents[place], LENGTH] == round_:
            _extend(table, work, active, parents[place])


@njit(cache=True, nogil=True)
def _extend(table: Any, work: Any, active: int, slot: int) -> None:
    shared, pixels = work.slots[slot, SHARED], work.slots[slot, PIXELS]
    for at in range(len(table.candidates)):
        concept = table.candidates[at]
        w, v = work.vectors[0, slot, concept], work.vectors[1, slot, concept]
        for op in range(3):
            if op == OR:
                a, n = shared + work.per_concept[concept] - v, pixels + table.pixels[concept] - w
            elif op == AND:
                a, n = v, w
            else:
                a, n = shared - v, pixels - w
            # One set holds the other, so equal counts mean equal sets: the concept changes nothing.
            if n != pixels and _hopeful(work, a, n, active):
                _offer(table, work, a, n, active, slot, op, concept)


@njit(cache=True, nogil=True)
def _hopeful(work: Any, shared: int, pixels: int, active: int) -> Any:
    """Tell, without a division, whether a formula may score as much as the last of a full beam."""
    last = len(work.score) - 1
    if shared == 0 or work.beam[_COUNT, 0] <= last:
        return shared > 0
    return shared >= work.score[last] * (active + pixels - shared) * (1 - 1e-9)


@njit(cache=True, nogil=True)
def _offer(table: Any, work: Any, shared: int, pixels: int, active: int, slot: int, op: int, concept: int) -> None:
    """Put a formula behind all of equal score, unless it is too weak or one of them has the same cells."""
    limit, count = len(work.score), work.beam[_COUNT, 0]
    score = shared / (active + pixels - shared)
    place = count
    while place > 0 and work.score[place - 1] < score:
        place -= 1
    if place == limit:
        return
    other = place - 1
    while other >= 0 and work.score[other] == score:
        if work.beam[_PIXELS, other] == pixels and _same_cells(table, work, other, slot, op, concept):
            return
        other -= 1
    for at in range(min(count, limit - 1), place, -1):
        work.score[at] = work.score[at - 1]
        for row in range(_SHARED, _CONCEPT + 1):
            work.beam[row, at] = work.beam[row, at - 1]
    work.score[place] = score
    work.beam[_SHARED, place], work.beam[_PIXELS, place] = shared, pixels
    work.beam[_SLOT, place], work.beam[_OP, place], work.beam[_CONCEPT, place] = slot, op, concept
    work.beam[_COUNT, 0] = min(count + 1, limit)


@njit(cache=True, nogil=True)
def _same_cells(table: Any, work: Any, other: int, slot: int, op: int, concept: int) -> Any:
    their_slot, their_op = work.beam[_SLOT, other], work.beam[_OP, other]
    their_concept = work.beam[_CONCEPT, other]
    for word in range(table.bits.shape[1]):
        theirs = _word(table.bits, work.bits, word, their_slot, their_op, their_concept)
        if _word(table.bits, work.bits, word, slot, op, concept) != theirs:
            return False
    return True


@njit(cache=True, nogil=True)
def _word(concepts: Any, formulas: Any, word: int, slot: int, op: int, concept: int) -> Any:
    """Return 64 cells of a formula as bits."""
    if op == _KEEP:
        return formulas[slot, word]
    bits = concepts[concept, word]
    if op == OR:
        return formulas[slot, word] | bits
    if op == AND:
        return formulas[slot, word] & bits
    return formulas[slot, word] & ~bits if op == AND_NOT else bits


@njit(cache=True, nogil=True)
def _settle(table: Any, work: Any, own: Any, length: int, vectors: bool) -> None:
    """Give the new formulas of the beam slots of their own, while their parents still stand."""
    free = 0
    for place in range(work.beam[_COUNT, 0]):
        parent, op, concept = work.beam[_SLOT, place], work.beam[_OP, place], work.beam[_CONCEPT, place]
        if op == _KEEP:
            continue
        while work.slots[free, _BUSY]:
            free += 1
        most = (work.slots.shape[1] - HEAD) // 2
        for at in range(length - 1):
            work.slots[free, HEAD + at] = work.slots[parent, HEAD + at]
            work.slots[free, HEAD + most + at] = work.slots[parent, HEAD + most + at]
        work.slots[free, HEAD + length - 1] = concept
        work.slots[free, HEAD + most + length - 1] = op
        work.slots[free, LENGTH] = length
        work.slots[free, SHARED], work.slots[free, PIXELS] = (
            work.beam[_SHARED, place],
            work.beam[_PIXELS, place],
        )
        for word in range(table.bits.shape[1]):
            work.bits[free, word] = _word(table.bits, work.bits, word, parent, op, concept)
        if vectors:
            _fill_vectors(table, work, own, free, parent, op, concept)
        work.beam[_SLOT, place] = free
        free += 1
    for slot in range(len(work.slots)):
        work.slots[slot, _BUSY] = 0
    for place in range(work.beam[_COUNT, 0]):
        work.slots[work.beam[_SLOT, place], _BUSY] = 1


@njit(cache=True, nogil=True)
def _fill_vectors(table: Any, work: Any, own: Any, slot: int, parent: int, op: int, concept: int) -> None:
    """Fill W and V of a slot: what the new concept's cells change, added to what the parent has."""
    for other in range(work.vectors.shape[2]):
        for half in range(2):
            inherited = work.vectors[half, parent, other] if op != AND and op != _LEAF else 0
            work.vectors[half, slot, other] = inherited
    indptr, indices = table.indptr, table.indices
    if op == _LEAF:  # W is in the table, V needs no more than the unit's own cells
        none: Any = np.int64(0)
        for other in range(work.vectors.shape[2]):
            work.vectors[0, slot, other] = table.overlap[concept, other]
        for place in range(len(own)):
            cell = own[place]
            if _has(table.bits, concept, cell):
                _add_cell(indptr, indices, work.vectors, slot, cell, none, work.per_cell[cell])
        return
    sign = -1 if op == AND_NOT else 1
    for at in range(table.start[concept], table.start[concept + 1]):
        cell = table.rows[at]
        if _has(work.bits, parent, cell) != (op == OR):
            pixels, shared = sign * table.weights[cell], sign * work.per_cell[cell]
            _add_cell(indptr, indices, work.vectors, slot, cell, pixels, shared)


@njit(cache=True, nogil=True)
def _add_cell(indptr: Any, indices: Any, vectors: Any, slot: int, cell: int, pixels: int, shared: int) -> None:
    for at in range(indptr[cell], indptr[cell + 1]):
        vectors[0, slot, indices[at]] += pixels
        vectors[1, slot, indices[at]] += shared


@njit(cache=True, nogil=True)
def _has(bits: Any, row: int, cell: int) -> Any:
    return (bits[row, cell >> 6] >> np.uint64(cell & 63)) & np.uint64(1) != 0


@njit(cache=True, nogil=True)
def _write(output: Any, unit: int, row: int, slots: Any, slot: int) -> None:
    for at in range(slots.shape[1]):
        output[unit, row, at] = slots[slot, at]
