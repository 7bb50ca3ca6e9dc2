"""The same unit in two runs, such as before and after training: what each found, its formula on the other's unit.

Where both runs count the same cells, a formula of one is scored on the unit of the other: whether the unit still
detects what it did, or only another formula for the same thing was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explain.errors import ExplainError
from explain.neurons.asking import Saved, open_run
from explain.neurons.formula import parse
from explain.neurons.sparse_counts import intersections
from explain.report.conditions import Run

__all__ = ["Pairing", "UnitPair", "pair_units"]


@dataclass(frozen=True)
class UnitPair:
    """One unit in two runs."""

    unit: int
    range: int | None
    formulas: tuple[str | None, str | None]
    ious: tuple[float, float]
    labels: tuple[str | None, str | None]
    """Best single concepts."""
    scores: tuple[float, float]
    """Their IoUs."""
    crossed: tuple[float | None, float | None]
    """IoU of the first run's formula on the second's unit, and of the second's on the first's; None: not known."""

    @property
    def change(self) -> float:
        """The second run's IoU minus the first's."""
        return self.ious[1] - self.ious[0]


@dataclass(frozen=True)
class Pairing:
    """All units that two runs share."""

    pairs: tuple[UnitPair, ...]
    crossed: bool
    """Whether formulas were scored on the other run's units."""
    told: str
    """Why not, or over which images."""

    def summary(self) -> dict[str, int]:
        """Return how many units keep formula and best single concept, and how many rise and fall in IoU."""
        pairs = self.pairs
        return {
            "units": len(pairs),
            "same_formula": sum(one.formulas[0] == one.formulas[1] is not None for one in pairs),
            "same_label": sum(one.labels[0] == one.labels[1] is not None for one in pairs),
            "higher": sum(one.change > 0 for one in pairs),
            "lower": sum(one.change < 0 for one in pairs),
        }


def pair_units(folders: tuple[Path, Path], runs: tuple[Run, Run]) -> Pairing:
    """Return the units of both runs side by side, by number, with each formula on the other run's unit."""
    first, second = ({(unit["unit"], unit.get("range")): unit for unit in run["units"]} for run in runs)
    keys = sorted((key for key in first if key in second), key=lambda key: (key[0], -1 if key[1] is None else key[1]))
    saved = _saved(folders)
    if isinstance(saved, str):
        crossed: Sequence[tuple[float | None, float | None]] = [(None, None)] * len(keys)
        told = saved
    else:
        crossed = _crossed(saved, [(first[key]["formula"], second[key]["formula"]) for key in keys], keys)
        told = _over(runs[0])
    pairs = tuple(_pair(key, first[key], second[key], scores) for key, scores in zip(keys, crossed, strict=True))
    return Pairing(pairs, not isinstance(saved, str), told)


def _pair(
    key: tuple[int, int | None],
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    crossed: tuple[float | None, float | None],
) -> UnitPair:
    return UnitPair(
        *key,
        formulas=(one["formula"], other["formula"]),
        ious=(one["iou"], other["iou"]),
        labels=(one["label"], other["label"]),
        scores=(one["score"] or 0.0, other["score"] or 0.0),
        crossed=crossed,
    )


def _saved(folders: tuple[Path, Path]) -> tuple[Saved, Saved] | str:
    """Return the counts of both runs, or why formulas cannot be scored on the other's units."""
    try:
        first, second = (open_run(folder) for folder in folders)
    except ExplainError as error:
        return f"Formulas are not scored on the other run’s units: {error}."
    if first.cells.concepts != second.cells.concepts or not all(
        np.array_equal(getattr(first.cells, name), getattr(second.cells, name))
        for name in ("counts", "indptr", "indices")
    ):
        return "Formulas are not scored on the other run’s units: the runs hold different cells."
    return first, second


def _crossed(
    saved: tuple[Saved, Saved],
    formulas: Sequence[tuple[str | None, str | None]],
    keys: Sequence[tuple[int, int | None]],
) -> list[tuple[float | None, float | None]]:
    places = [{key: place for place, key in enumerate(one.keys)} for one in saved]
    found = []
    for (unit, which), (one, other) in zip(keys, formulas, strict=True):
        key = (unit, -1 if which is None else which)
        found.append((_iou(saved[1], one, places[1][key]), _iou(saved[0], other, places[0][key])))
    return found


def _iou(saved: Saved, formula: str | None, place: int) -> float | None:
    """Return the IoU of a formula with the unit at a place of the table."""
    if formula is None:
        return None
    counts = saved.counts.select([place])
    shared, pixels = intersections(saved.cells, parse(formula), counts)
    union = int(counts.active[0]) + pixels - int(shared[0])
    return int(shared[0]) / union if union else 0.0


def _over(run: Run) -> str:
    settings = run["settings"]
    if settings.get("held_out") or settings.get("split_column"):
        return (
            "A formula on the other run’s unit is scored over all images; the runs’ own IoUs are over those searched."
        )
    return "A formula on the other run’s unit is scored over the same pixels as the runs’ own IoUs."
