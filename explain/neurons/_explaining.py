"""One layer's units: counts, search, evidence, and the rows that tell what was found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from explain.distributed import World
from explain.neurons._preparing import Prepared
from explain.neurons.cell_table import Cells
from explain.neurons.collect import Progress
from explain.neurons.counts import UnitCounts
from explain.neurons.dissection import UnitTable, unit_tables
from explain.neurons.evidence.gathering import Evidence, gather
from explain.neurons.evidence.parts import Measured, count_images
from explain.neurons.examples import Picked, others_of
from explain.neurons.explanations import UnitExplanation
from explain.neurons.finding import Finder, concepts_where_firing, find
from explain.neurons.firing import count_firing
from explain.neurons.formula import leaves
from explain.neurons.kinds import kind_of
from explain.neurons.relatedness import Relatedness
from explain.neurons.search import SearchResult, ceiling
from explain.runs import Checkpoint

__all__ = ["Part", "explanation", "search_rival", "search_units"]


@dataclass(frozen=True)
class Part:
    """What one process found of its units."""

    found: list[SearchResult]
    ceilings: list[float]
    evidence: tuple[Evidence, ...]
    tables: tuple[UnitTable, ...]
    counts: UnitCounts
    """Of all images."""
    others: list[tuple[Picked, ...]]
    """Images that show each unit, besides those that fire it most."""


def search_units(
    measured: Measured,
    finder: Finder,
    prepared: Prepared,
    numbers: NDArray[np.int64],
    checkpoint: Checkpoint,
    world: World,
    tell: Progress,
) -> Part:
    """Return what is found of this process's units."""
    held, device = prepared.held, prepared.subject.device
    counts, cells, searched, found = _searched(measured, finder, held, device, tell)
    tables = unit_tables(
        measured,
        cells,
        searched,
        found,
        prepared.settings.detecting,
        images=None if held is None else ~held,
        min_pixels=finder.min_pixels,
        device=device,
        progress=tell,
    )
    evidence = gather(
        measured,
        cells,
        searched,
        found,
        finder,
        prepared.settings.asked,
        held_out=held,
        numbers=numbers,
        checkpoint=checkpoint,
        world=world,
        progress=tell,
    )
    formulas, settings = [row.formula for row in found], prepared.settings
    others = others_of(measured, formulas, numbers, (settings.examples + 1) // 2, settings.asked.seed)
    return Part(found, ceiling(cells, searched).tolist(), evidence, tables, counts, others)


def search_rival(measured: Measured, finder: Finder, prepared: Prepared, tell: Progress) -> list[float]:
    """Return the IoU of the same search for this process's units of the untrained network."""
    found = _searched(measured, finder, prepared.held, prepared.subject.device, tell)[-1]
    return [result.iou for result in found]


def _searched(
    measured: Measured, finder: Finder, held: NDArray[np.bool_] | None, device: torch.device, tell: Progress
) -> tuple[UnitCounts, Cells, UnitCounts, list[SearchResult]]:
    """Return the counts of all images, the cells and counts that were searched, and what was found there."""
    counts = count_firing(
        measured.firing,
        measured.thresholds,
        measured.index,
        units=measured.units,
        upper=measured.upper,
        upsampling=measured.upsampling,
        device=device,
        progress=lambda done, total: tell("counts", done, total),
    )
    cells, searched = (measured.index.cells, counts) if held is None else count_images(measured, ~held)
    tell("search", 0, measured.units)
    allowed = None
    if finder.compat is not None:
        allowed = concepts_where_firing(measured.index, measured.firing, measured.units)
    found = find(
        finder,
        cells,
        searched,
        allowed=allowed,
        device=device,
        progress=lambda done, total: tell("search", done, total),
    )
    return counts, cells, searched, found


def explanation(
    unit: int,
    result: SearchResult,
    threshold: float,
    limit: float,
    categories: dict[str, str],
    evidence: Evidence,
    related: Relatedness | None,
) -> UnitExplanation:
    """Return what one unit was found to be, in one row."""
    label = str(result.by_length[0].formula) if result.by_length else None
    named = {categories[leaf] for leaf in leaves(result.formula)} if result.formula is not None else set()
    single = next(iter(leaves(result.by_length[0].formula))) if result.by_length else ""
    return UnitExplanation(
        unit=unit,
        formula=str(result.formula) if result.formula is not None else None,
        iou=result.iou,
        length=result.length,
        category=named.pop() if len(named) == 1 else ("mixed" if named else ""),
        threshold=threshold,
        active=result.active,
        precision=result.intersection / result.pixels if result.pixels else 0.0,
        recall=result.intersection / result.active if result.active else 0.0,
        ceiling=limit,
        search=result.search,
        bound=result.bound,
        stopped=result.stopped,
        beam_iou=result.beam_iou,
        kind=kind_of(result.formula, categories, related.near if related is not None else None),
        label=single if label is not None else None,
        score=result.by_length[0].iou if result.by_length else 0.0,
        label_category=categories.get(single, ""),
        best_by_length=tuple((most, str(row.formula), row.iou) for most, row in enumerate(result.by_length, 1)),
        runners_up=tuple((str(row.formula), row.iou, row.length) for row in result.beam[1:]),
        evidence=evidence,
    )
