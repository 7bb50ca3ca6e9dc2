"""Vectors and members of a formula that is new in the beam, from its parent's; see `explain.neurons._beam`.

Concepts of more than a `LARGE` part of the cells, such as parts of speech, are left to `explain.neurons._beam_parts`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.compiling import inner
from explain.neurons._beam_parts import fill_active_by_parts, fill_pixels_by_parts
from explain.neurons._beam_state import AND, AND_NOT, OR, OR_NOT

__all__ = ["fill_active", "fill_leaf", "fill_pixels"]

LARGE = 8


@inner
def fill_leaf(
    table: Any, work: Any, own: Any, own_counts: Any, slot: int, concept: int
) -> None:  # pragma: no cover - compiled
    """W and H of a single concept are in the table; V needs no more than the unit's own cells."""
    begin, end = work.start[concept], work.start[concept + 1]
    inside = 2 * (end - begin) <= len(own)  # walk through the unit's cells with the concept, or those without it
    for other in range(len(work.shared)):
        work.vectors[0, slot, other] = table.overlap[concept, other]
        work.vectors[1, slot, other] = np.int64(0) if inside else work.shared[other]
        work.vectors[2, slot, other] = table.shared_marks[concept, other]
    for word in range(work.bits.shape[1]):
        work.bits[slot, word] = np.uint64(0)
    for at in range(table.start[concept], table.start[concept + 1]):
        cell = table.rows[at]
        work.bits[slot, cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)
    for place in range(len(own)):
        work.members[slot, place] = 0
    for at in range(begin, end):
        work.members[slot, work.places[at]] = 1
    for number in range(end - begin if inside else len(own)):
        place = work.places[begin + number] if inside else number
        if inside or work.members[slot, place] == 0:
            count = own_counts[place] if inside else -own_counts[place]
            for at_label in range(work.own_start[place], work.own_start[place + 1]):
                work.vectors[1, slot, work.own_labels[at_label]] += count


@inner
def fill_pixels(
    table: Any, work: Any, rules: Any, slot: int, parent: int, op: int, concept: int
) -> None:  # pragma: no cover - compiled
    """Fill W, H and bits: with D = what the parent and the concept share, OR is W + overlap - D, AND is D."""
    begin, end = table.start[concept], table.start[concept + 1]
    if LARGE * (end - begin) > len(table.records):
        fill_pixels_by_parts(table, work, slot, parent, op, concept)
        return
    sign = np.int64(1) if op == AND or op == OR_NOT else np.int64(-1)
    disjoint = work.vectors[0, parent, concept] == 0
    for other in range(len(work.shared)):
        w, h = work.vectors[0, parent, other], work.vectors[2, parent, other]
        if op == OR:
            w, h = w + table.overlap[concept, other], h + table.shared_marks[concept, other]
        elif op == AND:
            w, h = np.int64(0), np.int64(0)
        elif op == OR_NOT:
            w = table.pixels[other] - table.overlap[concept, other]
            h = table.shared_marks[other, other] - table.shared_marks[concept, other]
        work.vectors[0, slot, other], work.vectors[2, slot, other] = w, h
    for word in range(work.bits.shape[1]):
        if op == AND:
            work.bits[slot, word] = np.uint64(0)
        elif op == OR_NOT:
            work.bits[slot, word] = ~np.uint64(0)
        else:
            work.bits[slot, word] = work.bits[parent, word]
    if op == OR and disjoint:  # objects of one kind never meet, so this is common
        for at in range(begin, end):
            cell = table.rows[at]
            work.bits[slot, cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)
        return
    if op == AND_NOT and disjoint:
        return
    mask_label, columns = (1 << table.width) - 1, table.packed.shape[1]
    for at in range(begin, end):
        cell = table.rows[at]
        bit = np.uint64(1) << np.uint64(cell & 63)
        inside = (work.bits[parent, cell >> 6] & bit) != 0
        if inside:
            weight, mark = sign * table.packed[cell, 0], sign * table.packed[cell, 1]
            for column in range(2, columns):
                word = table.packed[cell, column]
                for place in range(0, 64, table.width):
                    label = (word >> place) & mask_label
                    if label == mask_label:
                        break
                    work.vectors[0, slot, label] += weight
                    work.vectors[2, slot, label] += mark
        if (op == AND and inside) or op == OR:
            work.bits[slot, cell >> 6] |= bit
        elif (op == AND_NOT and inside) or (op == OR_NOT and not inside):
            work.bits[slot, cell >> 6] &= ~bit


@inner
def fill_active(
    table: Any, work: Any, own: Any, own_counts: Any, slot: int, parent: int, op: int, concept: int
) -> None:  # pragma: no cover - compiled
    """Fill V and members, from the unit's own cells."""
    if LARGE * (work.start[concept + 1] - work.start[concept]) > len(own):
        fill_active_by_parts(table, work, own, own_counts, slot, parent, op, concept)
        return
    for other in range(len(work.shared)):
        if op == AND:
            work.vectors[1, slot, other] = 0
        elif op == OR_NOT:  # all of the unit's pixels, less those of the concept outside the parent
            work.vectors[1, slot, other] = work.shared[other]
        else:
            work.vectors[1, slot, other] = work.vectors[1, parent, other]
    for place in range(len(own)):
        if op == AND:
            work.members[slot, place] = 0
        elif op == OR_NOT:
            work.members[slot, place] = 1
        else:
            work.members[slot, place] = work.members[parent, place]
    for at in range(work.start[concept], work.start[concept + 1]):
        place = work.places[at]
        inside = work.members[parent, place] != 0
        if inside == (op == AND or op == AND_NOT):
            sign = np.int64(1) if op == OR or op == AND else np.int64(-1)
            work.members[slot, place] = op == OR or op == AND
            for label in range(work.own_start[place], work.own_start[place + 1]):
                work.vectors[1, slot, work.own_labels[label]] += sign * own_counts[place]
