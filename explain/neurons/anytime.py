"""Search for longer formulas that may stop at any time, with a bound on what it has not seen.

The search goes down in levels. A level asks whether a formula of the grammar exceeds some IoU x above the best so far;
once it is done, x (or the formula that it found) bounds the IoU of all. The first x lies just below the ceiling, where
almost everything is left out at once; the last is the best IoU itself, and proves it. What lies above the bound was
searched first, so little is lost by starting anew. How far to go down is chosen by counted effort, not by a clock, so
that searches that come to their end give the same on every machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError
from explain.neurons._deep import go_on
from explain.neurons._deep_state import BEST, EFFORT, NEW_LEVEL, NEW_UNIT, NODES, PHASE, make_deep_work
from explain.neurons._table import Table
from explain.neurons.counts import UnitCounts
from explain.neurons.search import plain_counts, room_of, run_chunks

__all__ = ["DEFAULT_SECONDS", "Found", "Limits", "search_longer"]

DEFAULT_SECONDS = 1.0
_SLICE = 1 << 20  # steps between two looks at the clock: some milliseconds
_FIRST_BUDGET = 1 << 26  # steps after which the first level is taken for too low
_PATIENCE = 8  # times the effort of the level before
_START = {4: 0.5}  # the first level, as a share of the way from the best to the ceiling; of longer formulas:
_START_LONGER = 0.9
_SMALL = 0.04  # a share of that way that is taken in one step
_UNLIMITED = 1 << 62


@dataclass(frozen=True)
class Limits:
    """When to stop the search of one unit; `InputError` for negative values and NaN."""

    seconds: float | None = None
    """Time; None: `DEFAULT_SECONDS`, 0: no search, infinite: until proven."""
    gap: float = 0.0
    """Stop when no formula can exceed the best by more than this IoU."""
    nodes: int | None = None
    """Prefixes that are counted cell by cell: a limit that gives the same on every machine."""

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds >= 0:
            raise InputError(f"time per unit {self.seconds}: give seconds, 0 or more (inf: until proven)")
        if not 0 <= self.gap < math.inf:
            raise InputError(f"stop gap {self.gap}: give a difference in IoU, 0 or more")
        if self.nodes is not None and self.nodes < 0:
            raise InputError(f"nodes {self.nodes}: give 0 or more")


@dataclass(frozen=True, eq=False)
class Found:
    """What the search found, unit by unit."""

    best: NDArray[np.int64]
    """int64 ``(U, BEST + 2 L)``: intersection, pixels, length, concepts, operators."""
    bound: NDArray[np.float64]
    """float64 ``(U,)``: no formula has a higher IoU."""
    stopped: tuple[str, ...]
    """``""`` where the best is proven; ``"time"``, ``"gap"`` or ``"nodes"``: what stopped it."""


def search_longer(
    table: Table,
    units: UnitCounts,
    best: NDArray[np.int64],
    ceilings: NDArray[np.float64],
    limits: Limits,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Raise ``best``, one formula per unit in the table's numbers, towards the best formula of its L concepts.

    ``ceilings`` float64 ``(U,)``: the IoU that no formula exceeds.
    """
    length = (best.shape[1] - BEST) // 2
    counts, room, cells = plain_counts(units), room_of(table, units), len(table.records) - 1
    pixels = table.overlap.astype(np.float64)
    if not len(units):
        return Found(best, ceilings, ())
    bound, stopped, stop = ceilings.copy(), [""] * len(units), Event()

    def run(begin: int, end: int) -> None:
        work = make_deep_work(len(table.pixels), cells, room, length)
        for unit in range(begin, end):
            if not best[unit, 2] or stop.is_set():  # no concept meets the unit
                continue
            part = slice(counts[0][unit], counts[0][unit + 1])
            one = _Unit(table, pixels, work, counts[1][part], counts[2][part], int(counts[3][unit]), best[unit])
            bound[unit], stopped[unit] = _search(one, float(ceilings[unit]), limits, stop)

    # Compiled here, before any clock runs: a call without effort.
    work = make_deep_work(len(table.pixels), cells, room, length)
    go_on(table, pixels, work, counts[1], counts[2], 0, 0.0, best[0], 0, 0)
    run_chunks(len(units), run, progress, chunk=1, stop=stop)
    return Found(best, bound, tuple(stopped))


@dataclass(frozen=True, eq=False)
class _Unit:
    """What the compiled code needs of one unit."""

    table: Table
    pixels: NDArray[np.float64]
    work: Any
    cells: NDArray[np.int64]
    counts: NDArray[np.int64]
    active: int
    best: NDArray[np.int64]

    @property
    def length(self) -> int:
        return (len(self.best) - BEST) // 2

    @property
    def iou(self) -> float:
        shared, pixels = int(self.best[0]), int(self.best[1])
        return shared / (self.active + pixels - shared)


def _search(unit: _Unit, limit: float, limits: Limits, stop: Event) -> tuple[float, str]:
    """Return the bound, and what stopped the search."""
    seconds = DEFAULT_SECONDS if limits.seconds is None else limits.seconds
    end = time.perf_counter() + seconds
    if seconds == 0 or limits.nodes == 0:
        return (limit, "time" if seconds == 0 else "nodes") if limit > unit.iou else (unit.iou, "")
    unit.work.state[PHASE] = NEW_UNIT
    setup = 8 * len(unit.table.pixels) ** 2
    bound, before, budget, start = limit, setup, _FIRST_BUDGET, unit.iou
    level = start + _START.get(unit.length, _START_LONGER) * (limit - start)
    while True:
        if bound <= unit.iou:
            return unit.iou, ""
        if bound - unit.iou <= limits.gap:
            return bound, "gap"
        close = level - unit.iou <= _SMALL * (limit - start)
        level = min(bound, _above(unit.iou, limits.gap) if close else max(level, _above(unit.iou, limits.gap)))
        cautious = bound - level > _SMALL * (limit - start)
        stopped, effort = _run_level(unit, level, end, limits.nodes, budget if cautious else None, stop)
        if stopped == "budget":  # halfway back towards what is proven, with more patience
            level, budget = (level + bound) / 2, 2 * budget
            continue
        if stopped:
            return (bound, stopped) if bound > unit.iou else (unit.iou, "")  # what it found may reach the bound
        bound = max(level, unit.iou)
        growth, before = (setup + effort) / before, setup + effort
        budget = max(_FIRST_BUDGET, _PATIENCE * effort)
        level = unit.iou + (0.2 if growth < 2 else 0.6 if growth < 4 else 0.8) * (level - unit.iou)


def _above(iou: float, gap: float) -> float:
    """Return ``iou + gap``, rounded so that the difference is no more than ``gap``."""
    level = iou + gap
    while level - iou > gap:
        level = math.nextafter(level, 0)
    return level


def _run_level(
    unit: _Unit, level: float, end: float, nodes: int | None, budget: int | None, stop: Event
) -> tuple[str, int]:
    """Return what stopped a level (``""``: it is done; ``"budget"``: its effort), and its effort."""
    unit.work.state[PHASE] = min(unit.work.state[PHASE], NEW_LEVEL)
    effort, most = 0, _UNLIMITED if nodes is None else nodes
    while True:
        if stop.is_set() or time.perf_counter() >= end:
            return "time", effort
        if go_on(
            unit.table, unit.pixels, unit.work, unit.cells, unit.counts, unit.active, level, unit.best, _SLICE, most
        ):
            return "", effort
        effort += int(unit.work.state[EFFORT])
        if unit.work.state[NODES] >= most:
            return "nodes", effort
        if budget is not None and effort > budget:
            return "budget", effort
