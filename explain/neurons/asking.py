"""Any formula scored for every unit from a saved run: without the model and without the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain.concepts import Concept
from explain.errors import RunError
from explain.neurons.cell_table import Cells, load_cells
from explain.neurons.evidence.scores import scores_of
from explain.neurons.formula import Formula, canonical, leaves, parse
from explain.neurons.sparse_counts import UnitCounts, intersections
from explain.runs import read_json

__all__ = ["Answer", "Saved", "ask", "open_run", "told"]


@dataclass(frozen=True, eq=False)
class Saved:
    """What a neuron run keeps of its units."""

    cells: Cells
    counts: UnitCounts
    numbers: NDArray[np.int64]
    """The units' own numbers."""
    found: tuple[tuple[str | None, float], ...]
    """(formula, IoU) that the run found for each unit."""


@dataclass(frozen=True)
class Answer:
    """One unit's score for the formula that was asked about."""

    unit: int
    iou: float
    precision: float
    recall: float
    correlation: float
    found: str | None
    """What the run found for the unit, with ``found_iou``."""
    found_iou: float


def open_run(path: str | Path) -> Saved:
    """Read the counts of a neuron run.

    Raises
    ------
    RunError
        The folder is no neuron run, or its arrays are missing or broken.
    """
    folder = Path(path)
    run = read_json(folder / "run.json")
    if run.get("kind") != "neurons":
        raise RunError(f"{folder} is a run of kind {run.get('kind')!r}, not 'neurons': give a run of `explain neurons`")
    concepts = [Concept(one["name"], one["category"]) for one in run["concepts"]]
    cells = load_cells(folder / "arrays" / "cells.npz", concepts)
    try:
        with np.load(folder / "arrays" / "units.npz", allow_pickle=False) as stored:
            numbers, indptr, rows, counts = (stored[name] for name in ("units", "indptr", "cells", "counts"))
    except (OSError, KeyError, ValueError) as error:
        raise RunError(f"{folder / 'arrays' / 'units.npz'} cannot be read: {error}") from None
    found = tuple((unit["formula"], unit["iou"]) for unit in run["units"])
    if len(indptr) != len(numbers) + 1 or len(found) != len(numbers):
        raise RunError(f"{folder} does not match itself: {len(found)} units, counts of {len(indptr) - 1}")
    return Saved(cells, UnitCounts(indptr, rows, counts), numbers, found)


def ask(saved: Saved, formula: str | Formula) -> list[Answer]:
    """Score a formula for every unit, over all pixels of the run's probe set; best first, then by unit.

    Raises
    ------
    InputError
        The text is no formula, or names a concept that the run does not know.
    """
    asked = parse(formula) if isinstance(formula, str) else formula
    shared, pixels = intersections(saved.cells, asked, saved.counts)
    total = saved.cells.total
    answers = []
    for unit, (text, iou), a, active in zip(
        saved.numbers.tolist(), saved.found, shared.tolist(), saved.counts.active.tolist(), strict=True
    ):
        union = active + pixels - a
        scores = scores_of(a, pixels, active, total)
        answers.append(
            Answer(unit, a / union if union else 0.0, scores.precision, scores.recall, scores.correlation, text, iou)
        )
    return sorted(answers, key=lambda one: (-one.iou, one.unit))


def told(saved: Saved, formula: Formula) -> str:
    """Return one line on a formula: its canonical form, concepts and pixels."""
    _, pixels = intersections(saved.cells, formula, saved.counts)
    share = 100 * pixels / saved.cells.total if saved.cells.total else 0.0
    return f"{canonical(formula)}: {len(leaves(formula))} concept(s), {pixels} pixels ({share:.2f} %)"
