"""Our search beside the published one, mask by mask, in one process: the same final beams, or nothing is written."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import synthetic
import torch
from neurons_rows import REPEATS, SEED, Seconds, facts_of, row_of, told
from neurons_rows import spent as clocked
from numpy.typing import NDArray
from oracles import compexp
from timing import Row

from explain.neurons.cells import CellIndex
from explain.neurons.counts import active_masks
from explain.neurons.optimal import optimal_search
from explain.neurons.search import SearchResult, beam_search

BATCH = 64


@dataclass(frozen=True)
class Size:
    """A synthetic set and what is searched on it."""

    images: int
    concepts: int
    searches: tuple[tuple[int, int, int], ...]
    """(length, beam, units)."""


def concept_masks(index: CellIndex) -> Iterator[tuple[str, compexp.Rle]]:
    """Yield name and mask of each concept that occurs, by number: run lengths over all images, stacked."""
    images, height, width = index.local.shape
    starts = index.start.tolist()
    for concept in index.cells.concepts:
        having = np.append(index.cells.having(concept.name), False)
        if not having.any():
            continue
        shown = having[index.lookup]
        mask = np.zeros((images, height, width), np.bool_)
        for image in np.unique(np.searchsorted(index.start, np.flatnonzero(shown), side="right") - 1).tolist():
            table = np.append(shown[starts[image] : starts[image + 1]], False)
            mask[image] = table[np.minimum(index.local[image], len(table) - 1)]
        yield concept.name, compexp.encoded(mask.reshape(images * height, width))


def unit_mask(built: synthetic.Built, unit: int) -> compexp.Rle:
    """Return where a unit is active, upsampled."""
    images, height, width = built.index.local.shape
    own = np.flatnonzero(built.firing.unit == unit)
    maps = torch.from_numpy(built.firing.maps[own])[:, None]
    limit = torch.from_numpy(built.thresholds[unit : unit + 1])
    mask = np.zeros((images, height, width), np.bool_)
    for number, _, dense in active_masks(maps, limit, (height, width)):
        mask[built.firing.image[own[number.numpy()]]] = dense.numpy()
    return compexp.encoded(mask.reshape(images * height, width))


def first_leaves(built: synthetic.Built, units: int) -> NDArray[np.bool_]:
    """Return bool ``(U, C)``: the concepts of the images where each unit fires."""
    index = built.index
    allowed = np.zeros((units, len(index.cells.concepts)), np.bool_)
    for unit in range(units):
        for image in built.firing.image[built.firing.unit == unit].tolist():
            for cell in index.lookup[index.start[image] : index.start[image + 1]].tolist():
                allowed[unit, index.cells.indices[index.cells.indptr[cell] : index.cells.indptr[cell + 1]]] = True
    return allowed


def alike(got: SearchResult, wanted: Sequence[compexp.Item]) -> bool:
    """Tell whether two final beams are the same: formulas in order, counts, scores to the last bit."""
    ours = []
    for one in got.beam:
        score = one.intersection / (got.active + one.pixels - one.intersection + 1e-10)
        ours.append((one.text, score, one.intersection, one.pixels))
    return ours == [(one.text, one.score, one.intersection, one.pixels) for one in wanted]


def made(size: Size) -> tuple[synthetic.Built, compexp.Masks]:
    """Return the set, as cells and as run-length masks."""
    units = max(units for *_, units in size.searches)
    begun = time.perf_counter()
    built = synthetic.build(size.images, size.concepts, units, SEED)
    told(f"built in {time.perf_counter() - begun:.0f} s: {facts_of(built)}")
    begun = time.perf_counter()
    masks = compexp.Masks(concept_masks(built.index))
    for label in range(len(masks.masks)):
        masks.negated(label)
    told(f"{len(masks.masks)} concepts as run lengths in {time.perf_counter() - begun:.0f} s")
    return built, masks


def against_masks(size: Size) -> Iterator[Row]:
    """Yield the rows of our search beside the mask by mask one."""
    built, masks = made(size)
    case = f"{size.images} images, 112x112, {size.concepts} concepts"
    for length, beam, units in size.searches:
        name = f"N={size.images} beam L{length}B{beam}"
        alone, together, exact = beside_masks(built, masks, length, beam, units)
        yield row_of(f"{name}, one unit a call", case, "mask by mask", alone, 1)
        yield row_of(f"{name}, {BATCH} units a call", case, "mask by mask", together, 1)
        if length == 3:
            yield row_of(
                f"N={size.images} certified L3, one unit a call", case, f"mask by mask, beam L{length}B{beam}", exact, 1
            )


def beside_masks(
    built: synthetic.Built, masks: compexp.Masks, length: int, beam: int, units: int
) -> tuple[Seconds, Seconds, Seconds]:
    """Return seconds ``(units, 2)`` of (ours, mask by mask): one unit a call, many, and the certified search."""
    cells, allowed = built.index.cells, first_leaves(built, units)
    seen = cells.concept_pixels > 0

    def ours(chosen: NDArray[np.int64]) -> list[SearchResult]:
        own = built.counts.select(chosen)
        return beam_search(cells, own, length=length, beam=beam, compat="compexp", allowed=allowed[chosen])

    def theirs(unit: int) -> list[compexp.Item]:
        return compexp.search(mask, masks, allowed[unit, seen].tolist(), length=length, beam=beam)

    spent = functools.partial(clocked, clock=time.process_time)  # of one core each, whatever else the machine does
    alone, exact = np.zeros((units, 2)), np.zeros((units, 2))
    ours(np.arange(units))  # compiles
    optimal_search(cells, built.counts.select([0]), length=3)
    for unit in range(units):
        mask, one = unit_mask(built, unit), np.array([unit])
        before, (found,) = spent(functools.partial(ours, one), REPEATS)
        other, wanted = spent(functools.partial(theirs, unit), 1)
        after, _ = spent(functools.partial(ours, one), REPEATS)
        alone[unit] = (before + after) / 2, other
        if not alike(found, wanted):
            raise SystemExit(f"unit {unit}: the final beams differ: the search is wrong")
        own = built.counts.select(one)
        exact[unit] = spent(functools.partial(optimal_search, cells, own, length=3), 3)[0], other
        told(
            f"L{length}B{beam} unit {unit}: {1000 * alone[unit, 0]:.3f} ms, mask by mask {other:.1f} s:"
            f" {other / alone[unit, 0]:,.0f} times as fast, the same {len(wanted)} formulas, {found.beam[0].text}"
        )
    whole, _ = spent(functools.partial(ours, np.arange(BATCH) % units), REPEATS)
    together = alone.copy()
    together[:, 0] = whole / BATCH
    told(f"L{length}B{beam}: {1000 * whole / BATCH:.3f} ms per unit, {BATCH} units a call")
    return alone, together, exact
