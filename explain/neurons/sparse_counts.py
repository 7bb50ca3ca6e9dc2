"""Counts of active pixels per unit and cell, as sparse tables of whole numbers: scored, merged, renamed.

Needs numpy only, so that a saved run is read without torch; `explain.neurons.counts` makes such tables from maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError
from explain.neurons.cell_table import Cells, formula_cells
from explain.neurons.formula import Formula

__all__ = [
    "UnitCounts",
    "from_keys",
    "intersections",
    "iou",
    "merge_counts",
    "stack_counts",
    "sum_keys",
    "unit_counts",
]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class UnitCounts:
    """Active pixels per unit and cell, sparse: unit u has ``counts[indptr[u]:indptr[u + 1]]``."""

    indptr: Ints
    """int64 ``(U + 1,)``."""
    cells: Ints
    """int64: cell numbers, ascending within a unit."""
    counts: Ints
    """int64: active pixels, at least 1."""

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @cached_property
    def active(self) -> Ints:
        """int64 ``(U,)``: active pixels in any cell; ignored pixels lie in none."""
        sums = np.concatenate([[0], np.cumsum(self.counts)])
        return np.asarray(np.diff(sums[self.indptr]), np.int64)

    def within(self, mask: NDArray[np.bool_]) -> Ints:
        """Return int64 ``(U,)``: active pixels in the cells that a bool ``(M,)`` mask names."""
        sums = np.concatenate([[0], np.cumsum(np.where(mask[self.cells], self.counts, 0))])
        return np.asarray(np.diff(sums[self.indptr]), np.int64)

    def select(self, units: Sequence[int] | Ints) -> UnitCounts:
        """Return the counts of some units, in the order given."""
        chosen = np.asarray(units, np.int64)
        sizes = np.diff(self.indptr)[chosen]
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        take = np.repeat(self.indptr[chosen] - indptr[:-1], sizes) + np.arange(indptr[-1])
        return UnitCounts(indptr.astype(np.int64), self.cells[take], self.counts[take])

    def mapped(self, numbers: Ints, cells: int) -> UnitCounts:
        """Return the counts with cell m renamed to ``numbers[m]`` (see `cell_map`), of ``cells`` in all."""
        keys = self._units() * cells + numbers[self.cells]
        return from_keys(keys, self.counts, len(self), cells)

    def _units(self) -> Ints:
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr))


def intersections(cells: Cells, formula: Formula, units: UnitCounts) -> tuple[Ints, int]:
    """Return the pixels that each unit shares with a formula, int64 ``(U,)``, and the formula's pixels."""
    mask = formula_cells(cells, formula)
    return units.within(mask), int(cells.counts[mask].sum())


def iou(cells: Cells, formula: Formula, units: UnitCounts) -> NDArray[np.float64]:
    """Return float64 ``(U,)``: intersection over union of each unit with a formula, 0 where both are empty.

    The whole numbers are exact; the one division rounds once.
    """
    shared, pixels = intersections(cells, formula, units)
    union = units.active + pixels - shared
    return np.asarray(shared / np.maximum(union, 1), np.float64)


def unit_counts(dense: NDArray[Any]) -> UnitCounts:
    """Return the sparse form of a dense table of whole numbers ``(U, M)``."""
    rows, columns = np.nonzero(dense)
    keys = rows.astype(np.int64) * dense.shape[1] + columns
    return from_keys(keys, dense[rows, columns].astype(np.int64), len(dense), dense.shape[1])


def stack_counts(parts: Sequence[UnitCounts]) -> UnitCounts:
    """Return the counts of several groups of units, one group after the other, on the same cells."""
    sizes = [np.diff(part.indptr) for part in parts]
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sizes))])
    cells, counts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cells", "counts"))
    return UnitCounts(indptr.astype(np.int64), cells, counts)


def merge_counts(parts: Sequence[UnitCounts], cells: int) -> UnitCounts:
    """Return the sum of shards over the same units and the same table of ``cells`` cells.

    Raises
    ------
    InputError
        There is nothing to merge, or the number of units differs.
    """
    if len({len(part) for part in parts}) != 1:
        raise InputError(f"counts of {[len(part) for part in parts]} units cannot be merged")
    keys = np.concatenate([part._units() * cells + part.cells for part in parts])
    return from_keys(keys, np.concatenate([part.counts for part in parts]), len(parts[0]), cells)


def from_keys(keys: Ints, counts: Ints, units: int, cells: int) -> UnitCounts:
    """Return the sums of ``counts`` with equal ``keys = unit * cells + cell``, in any order."""
    keys, counts = sum_keys(keys, counts)
    indptr = np.searchsorted(keys, np.arange(units + 1, dtype=np.int64) * cells)
    return UnitCounts(indptr.astype(np.int64), keys % max(cells, 1), counts)


def sum_keys(keys: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Return the distinct keys, ascending, and the sum of the counts of each."""
    if not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[begins], np.add.reduceat(counts[order], begins)
