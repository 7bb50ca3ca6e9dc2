"""The example images of a run as rows: which image, its scores, and the outlines of unit and formula as packed bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from explain.neurons.cell_table import Cells, formula_cells
from explain.neurons.counts import active_masks
from explain.neurons.examples import OTHERS, Examples, Picked
from explain.neurons.explanations import UnitExplanation
from explain.neurons.formula import minor_negation, parse
from explain.neurons.results import NeuronRun
from explain.neurons.upsampling import Axes, Upsampling

__all__ = ["ExampleRow", "example_arrays", "example_rows", "lists_of", "shown_of_units"]


@dataclass(frozen=True, eq=False)
class ExampleRow:
    """One image that shows a unit."""

    place: int
    """Of the unit in the run."""
    kind: str
    """``"top"`` or one of `explain.neurons.examples.OTHERS`."""
    image: int
    peak: float | None
    """None where no value lies above the unit's threshold."""
    iou: float
    unit_bits: NDArray[np.uint8]
    formula_bits: NDArray[np.uint8]
    """Of the formula; of its minor negation in rows of that kind."""


def example_rows(run: NeuronRun) -> Iterator[ExampleRow]:
    """Yield each unit's images with the unit's and the formula's mask: those that fire it most first."""
    assert run.index is not None  # both were checked by write_run
    assert run.examples is not None
    for place, unit in enumerate(run.units):
        formula = None if unit.formula is None else parse(unit.formula)
        for picked in _pictures(run.examples, place):
            shown = formula
            if picked.kind == "negation" and formula is not None:
                shown = minor_negation(formula)
            holds = _holds(run.index.cells, shown)
            maps = torch.from_numpy(picked.maps)
            masks = _unit_masks(maps, unit, run.resolution, run.axes or "bilinear")
            for image, peak, mask in zip(picked.images.tolist(), picked.peaks.tolist(), masks, strict=True):
                where = np.append(holds, False)[run.index.cell_ids(image)]  # -1, an ignored pixel, takes that False
                union = int((mask | where).sum())
                yield ExampleRow(
                    place,
                    picked.kind,
                    image,
                    None if np.isneginf(peak) else peak,
                    int((mask & where).sum()) / union if union else 0.0,
                    np.packbits(mask),
                    np.packbits(where),
                )


def _pictures(examples: Examples, place: int) -> Iterator[Picked]:
    numbers = examples.images[place].numpy()
    present = np.flatnonzero(numbers >= 0)
    if len(present):
        peaks, maps = examples.peaks[place].numpy()[present], examples.maps[place].numpy()[present]
        yield Picked("top", numbers[present], peaks, maps)
    yield from examples.others[place] if examples.others else ()


def _holds(cells: Cells, formula: Any) -> NDArray[np.bool_]:
    return np.zeros(len(cells), np.bool_) if formula is None else formula_cells(cells, formula)


def _unit_masks(
    maps: torch.Tensor, unit: UnitExplanation, size: tuple[int, int], how: Upsampling | Axes
) -> NDArray[np.bool_]:
    masks = np.zeros((len(maps), *size), dtype=np.bool_)
    upper = None if unit.upper is None else torch.tensor([unit.upper])
    for image, _, mask in active_masks(
        maps[:, None], torch.tensor([unit.threshold]), size, upper=upper, upsampling=how
    ):
        masks[image.numpy()] = mask.numpy()
    return masks


def example_arrays(rows: Sequence[ExampleRow], size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Return what ``examples.npz`` holds: packed masks, uint8 ``(n, bytes)``, and their shape; n may be 0."""
    wide = (len(rows), (size[0] * size[1] + 7) // 8)
    return {
        "unit": np.array([row.unit_bits for row in rows], np.uint8).reshape(wide),
        "formula": np.array([row.formula_bits for row in rows], np.uint8).reshape(wide),
        "shape": np.array(size),
    }


def shown_of_units(rows: Sequence[ExampleRow], units: int) -> list[dict[str, Any]]:
    """Return ``examples`` and ``also`` of each unit as ``run.json`` holds them; ``row`` counts the arrays' rows."""
    found: list[dict[str, Any]] = [{"examples": [], "also": {kind: [] for kind in OTHERS}} for _ in range(units)]
    for number, row in enumerate(rows):
        shown = found[row.place]
        kept = shown["examples"] if row.kind == "top" else shown["also"][row.kind]
        kept.append({"image": row.image, "peak": row.peak, "iou": row.iou, "row": number})
    return found


def lists_of(unit: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """Return a unit's lists of examples, in the order in which their rows are counted."""
    return [unit["examples"], *unit.get("also", {}).values()]
