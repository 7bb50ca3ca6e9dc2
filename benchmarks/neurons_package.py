"""Our searches beside those of the package ``compositional-explanations``, on a set that it can take."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import synthetic
import torch
from neurons_rows import PACKAGE, REPEATS, SEED, row_of, spent, told
from timing import Row

from explain.neurons.counts import UnitCounts, active_masks
from explain.neurons.optimal import optimal_search
from explain.neurons.search import SearchResult, beam_search

PEER = (100, 75, 56)  # images, concepts, side


def against_package(folder: Path | None, units: int) -> Iterator[Row]:
    """Yield the rows of our searches beside the package ``compositional-explanations``; none where it is not there."""
    if folder is not None:
        sys.path.append(str(folder))
    try:
        from compositional_explanations import beam as peer_beam
        from compositional_explanations import metrics
        from compositional_explanations import optimal as peer_optimal
    except ImportError as error:
        told(f"compositional-explanations left out: {error} (pip install --no-deps --target DIR it, then --peer DIR)")
        return
    images, concepts, side = PEER
    built = synthetic.build(images, concepts, units, SEED, resolution=side)
    cells = built.index.cells
    present = np.flatnonzero(cells.concept_pixels > 0)
    ids = np.stack([built.index.cell_ids(image) for image in range(images)])
    masks = [torch.from_numpy(cells.having(cells.concepts[number].name)[ids]).flatten(1) for number in present]
    disjoint = torch.tensor([[not bool((one & other).any()) for other in masks] for one in masks])
    case = f"{images} images, {side}x{side}, {concepts} concepts"
    ways: dict[str, tuple[Callable[..., Any], Callable[[UnitCounts], list[SearchResult]]]] = {
        "beam L3B5": (peer_beam.compute_beam_explanations, lambda own: beam_search(cells, own, length=3, beam=5)),
        "certified L3": (peer_optimal.compute_optimal_explanations, lambda own: optimal_search(cells, own, length=3)),
    }
    for name, (theirs, ours) in ways.items():
        seconds = np.zeros((units, 2))
        ours(built.counts)
        for unit in range(units):
            own = built.counts.select([unit])
            bitmap = torch.zeros((images, side, side), dtype=torch.bool)
            at = np.flatnonzero(built.firing.unit == unit)
            maps = torch.from_numpy(built.firing.maps[at])[:, None]
            for number, _, dense in active_masks(
                maps, torch.from_numpy(built.thresholds[unit : unit + 1]), (side, side)
            ):
                bitmap[torch.from_numpy(built.firing.image[at[number.numpy()]])] = dense
            options = {"beam_size": 5} if name.startswith("beam") else {}
            begun = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
                formula = theirs(
                    bitmaps=bitmap.flatten(1),
                    masks=masks,
                    disjoint_info=disjoint,
                    length=3,
                    device=torch.device("cpu"),
                    **options,
                )
            seconds[unit, 1] = time.perf_counter() - begun
            reached = metrics.compute_iou_from_masks(formula=formula, masks=masks, bitmaps=bitmap.flatten(1))
            seconds[unit, 0], (found,) = spent(lambda own=own, ours=ours: ours(own), REPEATS)
            told(
                f"{name} unit {unit}: {1000 * seconds[unit, 0]:.3f} ms, package {seconds[unit, 1]:.2f} s:"
                f" {seconds[unit, 1] / seconds[unit, 0]:,.0f} times as fast; IoU {found.iou:.6f}, package {reached:.6f}"
            )
            if name == "certified L3" and found.iou != reached:
                raise SystemExit(f"unit {unit}: two certified optima differ: {found.iou} and {reached}")
        yield row_of(f"N={images} {name}, one unit a call", case, PACKAGE, seconds, 1)
