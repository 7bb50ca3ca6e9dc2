"""Any formula scored for every unit from a saved run: without the model and without the images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain.concepts import Concept
from explain.errors import InputError, RunError, near
from explain.neurons.cell_table import Cells, load_cells
from explain.neurons.evidence.scores import scores_of
from explain.neurons.formula import Formula, canonical, leaves, parse
from explain.neurons.sparse_counts import UnitCounts, intersections
from explain.runs import read_arrays, read_json

__all__ = ["ANSWER_COLUMNS", "Answer", "Saved", "ask", "open_run", "sorted_answers", "told", "write_answers"]


@dataclass(frozen=True, eq=False)
class Saved:
    """What a neuron run keeps of its units."""

    cells: Cells
    counts: UnitCounts
    numbers: NDArray[np.int64]
    """The units' own numbers."""
    found: tuple[tuple[str | None, float], ...]
    """(formula, IoU) that the run found for each unit."""
    ranges: NDArray[np.int64] | None = None
    """Which range of its unit's activation each row is; None where the run has none."""
    sites: str = "pixels"
    """What is counted: pixels of images, or pairs of sentences."""

    @property
    def keys(self) -> list[tuple[int, int]]:
        """(unit, range) of each row, the range -1 where there is none."""
        ranges = np.full(len(self.numbers), -1) if self.ranges is None else self.ranges
        return list(zip(self.numbers.tolist(), ranges.tolist(), strict=True))


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
    range: int | None = None
    """Of the unit's activation, where the run has ranges."""


ANSWER_COLUMNS = tuple(field.name for field in fields(Answer) if field.name != "range")
"""What answers are sorted by, and the columns of `write_answers`; ``range`` follows where the run has ranges."""


def open_run(path: str | Path) -> Saved:
    """Read the counts of a neuron run.

    ``run.json`` is left alone where it can be: with thousands of units it takes longer to read than all the rest.

    Raises
    ------
    RunError
        The folder is no neuron run, or its tables or arrays are missing or broken.
    """
    folder = Path(path)
    manifest = read_json(folder / "manifest.json")
    kind = manifest.get("kind")
    if kind != "neurons":
        raise RunError(f"{folder} is a run of kind {kind!r}, not 'neurons': give a run of `explain neurons`")
    cells = load_cells(folder / "arrays" / "cells.npz", _concepts(folder))
    names = ("units", "indptr", "cells", "counts")
    numbers, indptr, rows, counts = read_arrays(folder / "arrays" / "units.npz", names)
    found = _found(folder / "units.csv")
    ranges = None
    if any(which >= 0 for _, which in found):
        (ranges,) = read_arrays(folder / "arrays" / "units.npz", ["ranges"])
    if len(indptr) != len(numbers) + 1 or (ranges is not None and len(ranges) != len(numbers)):
        raise RunError(f"{folder} does not match itself: {len(numbers)} units, counts of {len(indptr) - 1}")
    sites = "pairs" if manifest.get("domain") == "text" else "pixels"
    saved = Saved(cells, UnitCounts(indptr, rows, counts), numbers, (), ranges, sites)
    if sorted(found) != sorted(saved.keys):
        raise RunError(f"{folder} does not match itself: {len(found)} units, counts of {len(indptr) - 1}")
    return replace(saved, found=tuple(found[key] for key in saved.keys))


def _concepts(folder: Path) -> list[Concept]:
    table = folder / "concepts.csv"
    rows = _rows(table) if table.is_file() else read_json(folder / "run.json")["concepts"]
    return [Concept(row["name"], row["category"]) for row in rows]


def _found(table: Path) -> dict[tuple[int, int], tuple[str | None, float]]:
    """Return (formula, IoU) by (unit, range), the range -1 where there is none."""
    try:
        return {
            (int(row["unit"]), int(row.get("range", -1))): (row["formula"] or None, float(row["iou"]))
            for row in _rows(table)
        }
    except (KeyError, TypeError, ValueError) as error:  # a column is missing, a line is cut, a number is none
        raise RunError(f"{table} is no table of units: {error}") from None


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


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
    for (unit, which), (text, iou), a, active in zip(
        saved.keys, saved.found, shared.tolist(), saved.counts.active.tolist(), strict=True
    ):
        union = active + pixels - a
        scores = scores_of(a, pixels, active, total)
        own = (scores.precision, scores.recall, scores.correlation, text, iou)
        answers.append(Answer(unit, a / union if union else 0.0, *own, None if which < 0 else which))
    return sorted(answers, key=lambda one: (-one.iou, *_key(one)))


def _key(one: Answer) -> tuple[int, int]:
    return one.unit, -1 if one.range is None else one.range


def told(saved: Saved, formula: Formula) -> str:
    """Return one line on a formula: its canonical form, concepts and pixels."""
    _, pixels = intersections(saved.cells, formula, saved.counts)
    share = 100 * pixels / saved.cells.total if saved.cells.total else 0.0
    return f"{canonical(formula)}: {len(leaves(formula))} concept(s), {pixels} {saved.sites} ({share:.2f} %)"


def sorted_answers(answers: Sequence[Answer], by: str = "-iou") -> list[Answer]:
    """Return the answers sorted by one of `ANSWER_COLUMNS` (``-NAME``: falling); equal ones by unit.

    Raises
    ------
    InputError
        There is no such column.
    """
    column, known = by.removeprefix("-"), _columns(answers)
    if column not in known:
        raise InputError(
            f"no column {column!r} to sort by{near(column, known)}: {', '.join(known)}; falling with a minus before it"
        )
    ordered = sorted(answers, key=_key)
    # A unit without a formula comes before all that have one; None cannot be compared with text.
    ordered.sort(
        key=lambda one: "" if getattr(one, column) is None else getattr(one, column), reverse=by.startswith("-")
    )
    return ordered


def _columns(answers: Sequence[Answer]) -> tuple[str, ...]:
    return ANSWER_COLUMNS if all(one.range is None for one in answers) else (*ANSWER_COLUMNS, "range")


def write_answers(answers: Sequence[Answer], path: str | Path) -> Path:
    """Write answers to a CSV file in the order given, floats by ``repr``; ``found`` is empty where nothing was.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    target = Path(path)
    try:
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            columns = _columns(answers)
            writer.writerow(columns)
            # The csv module writes floats by repr, None as nothing.
            writer.writerows(astuple(one)[: len(columns)] for one in answers)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror or error}): choose another file") from None
    return target
