"""Beam search for the formula that best explains a unit, for many units at once.

Formulas grow from the left, ``((c1 op c2) op c3) …`` with OR, AND and AND NOT, as in Mu & Andreas (2020).
The score is the IoU over all pixels. Other than theirs, the beam holds each set of pixels once: a formula
that selects the same cells as one before it, or as its own beginning, or no active pixel, takes no slot.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import config
from numpy.typing import NDArray

from explain.errors import InputError
from explain.neurons._beam import (
    AND_NOT,
    HEAD,
    LENGTH,
    OR,
    PIXELS,
    SHARED,
    Table,
    Work,
    fill_tables,
    search_units,
)
from explain.neurons.cells import Cells
from explain.neurons.counts import UnitCounts
from explain.neurons.formula import And, Formula, Leaf, Not, Or

__all__ = ["Scored", "SearchResult", "beam_search", "ceiling"]

_CHUNK = 32  # units searched between two reports of progress


@dataclass(frozen=True)
class Scored:
    """One formula with its score for one unit."""

    formula: Formula
    iou: float
    length: int
    """Leaves."""
    intersection: int
    """Active pixels where the formula holds."""
    pixels: int
    """Pixels where the formula holds."""


@dataclass(frozen=True)
class SearchResult:
    """What the search found for one unit; ``formula`` is None where nothing overlaps with the unit."""

    formula: Formula | None
    iou: float
    length: int
    active: int
    """Active pixels of the unit."""
    intersection: int
    pixels: int
    by_length: tuple[Scored, ...]
    """``by_length[l - 1]``: the best formula with at most l leaves; its IoU never falls with l."""
    beam: tuple[Scored, ...]
    """The final beam, best first; all of them select different pixels."""


def beam_search(
    cells: Cells,
    units: UnitCounts,
    *,
    length: int = 3,
    beam: int = 5,
    min_pixels: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[SearchResult]:
    """Find a good formula for each unit.

    Parameters
    ----------
    cells, units
        The table of cells, and each unit's active pixels on it.
    length
        At most this many leaves.
    beam
        How many formulas are kept after each round. Order: higher IoU, then fewer leaves, then order of
        generation (parents in beam order, concepts in the order of ``cells.concepts``, OR before AND before
        AND NOT).
    min_pixels
        Concepts with fewer pixels are not used.
    progress
        Called now and then with the number of units done and in all.

    Returns
    -------
    list of SearchResult
        One per unit, in order.

    Raises
    ------
    InputError
        An option is out of range, or the units do not belong to the cells.
    """
    if length < 1 or beam < 1 or min_pixels < 0:
        raise InputError(
            f"length and beam must be at least 1, min_pixels at least 0; got {length}, {beam}, {min_pixels}"
        )
    if len(units.cells) and not 0 <= units.cells.min() <= units.cells.max() < len(cells):
        raise InputError(f"units name cell {units.cells.max()}, but there are {len(cells)} cells")
    table = _make_table(cells, min_pixels)
    output = np.zeros((len(units), beam + length, HEAD + 2 * length), np.int64)
    counts = (_plain(units.indptr), _plain(units.cells), _plain(units.counts), _plain(units.active))

    def work(begin: int) -> int:
        end = min(begin + _CHUNK, len(units))
        search_units(table, _make_work(table, beam, length), counts, begin, end, output)
        return end - begin

    done = 0
    # Threads, not numba's own: the compiled code lets go of the lock, and chunks let progress be seen.
    with ThreadPoolExecutor(_threads()) as pool:
        for finished in pool.map(work, range(0, len(units), _CHUNK)):
            done += finished
            if progress is not None:
                progress(done, len(units))
    names = tuple(Leaf(concept.name) for concept in cells.concepts)
    return [_result(names, output[unit].tolist(), active, beam) for unit, active in enumerate(units.active.tolist())]


def ceiling(cells: Cells, units: UnitCounts) -> NDArray[np.float64]:
    """Return float64 ``(U,)``: the best IoU that any logical formula of any length can reach.

    Every set of cells is the set of some formula, and the best set takes cells by falling share of active
    pixels; so one sort finds it.
    """
    best = np.zeros(len(units), np.float64)
    for unit, active in enumerate(units.active.tolist()):
        part = slice(units.indptr[unit], units.indptr[unit + 1])
        counts, weights = units.counts[part], cells.counts[units.cells[part]]
        order = np.argsort(-(counts / weights), kind="stable")
        shared, pixels = np.cumsum(counts[order]), np.cumsum(weights[order])
        best[unit] = np.max(shared / (active + pixels - shared), initial=0.0)
    return best


def _threads() -> int:
    # Follows the process's share of the cores, and $NUMBA_NUM_THREADS.
    return int(getattr(config, "NUMBA_NUM_THREADS", 1))


def _result(names: tuple[Leaf, ...], rows: list[list[int]], active: int, beam: int) -> SearchResult:
    scored = [_scored(names, row, active) for row in rows]
    found = tuple(row for row in scored[:beam] if row is not None)
    if not found:
        return SearchResult(None, 0.0, 0, active, 0, 0, (), ())
    by_length = tuple(row for row in scored[beam:] if row is not None)
    best = found[0]
    return SearchResult(best.formula, best.iou, best.length, active, best.intersection, best.pixels, by_length, found)


def _scored(names: tuple[Leaf, ...], row: list[int], active: int) -> Scored | None:
    size, shared, pixels = row[LENGTH], row[SHARED], row[PIXELS]
    if size == 0:
        return None
    concepts, ops = row[HEAD : HEAD + size], row[(HEAD + len(row)) // 2 :]
    formula: Formula = names[concepts[0]]
    for op, concept in zip(ops[1:size], concepts[1:], strict=True):
        leaf: Formula = Not(names[concept]) if op == AND_NOT else names[concept]
        kind = Or if op == OR else And
        formula = kind((*(formula.parts if isinstance(formula, kind) else (formula,)), leaf))
    return Scored(formula, shared / (active + pixels - shared), size, shared, pixels)


def _plain(array: NDArray[Any]) -> NDArray[np.int64]:
    """Return a writable, contiguous int64 array: one type, so that the search is compiled once."""
    return np.require(array, np.int64, ["C", "W"])


def _make_table(cells: Cells, min_pixels: int) -> Table:
    count = len(cells.concepts)
    start, rows = (_plain(part) for part in cells.postings)
    indptr, indices, weights = _plain(cells.indptr), _plain(cells.indices), _plain(cells.counts)
    overlap = np.zeros((count, count), np.int64)
    bits = np.zeros((count, (len(cells) + 63) // 64), np.uint64)
    fill_tables(indptr, indices, weights, overlap, bits)
    pixels = _plain(cells.concept_pixels)
    candidates = _plain(np.flatnonzero(pixels >= max(min_pixels, 1)))
    return Table(indptr, indices, start, rows, weights, pixels, candidates, overlap, bits)


def _make_work(table: Table, beam: int, length: int) -> Work:
    cells, (concepts, words) = len(table.weights), table.bits.shape
    return Work(
        score=np.zeros(beam, np.float64),
        beam=np.zeros((6, beam), np.int64),
        slots=np.zeros((2 * beam, HEAD + 2 * length), np.int64),
        vectors=np.zeros((2, 2 * beam, concepts), np.int64),
        bits=np.zeros((2 * beam, words), np.uint64),
        per_cell=np.zeros(cells, np.int64),
        per_concept=np.zeros(concepts, np.int64),
    )
