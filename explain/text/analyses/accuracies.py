"""How often a model is right where a unit fires, and whether that goes with how well a formula explains the unit.

Mu & Andreas (2020), section 5, correlate a unit's accuracy when firing with its IoU, over units. Here that is done for
every maximum length of the formulas, with p-values and intervals, so that the choice of a length is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError
from explain.neurons.effects.correlating import Correlation, correlate
from explain.neurons.explanations import UnitExplanation

__all__ = ["LengthRow", "accuracy_when_firing", "correlations_by_length", "ious_by_length"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LengthRow:
    """All units explained with formulas of at most ``length`` concepts."""

    length: int
    mean_iou: float
    gaining: float
    """Share of the units whose IoU is higher than with one concept less."""
    pearson: Correlation | None
    """Of IoU and accuracy when firing; None where one does not vary or there are fewer than three units."""
    spearman: Correlation | None
    """The same of their ranks."""


def accuracy_when_firing(
    firing: NDArray[np.bool_], labels: NDArray[np.int64], predictions: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.int64]]:
    """Return each unit's accuracy over the labelled pairs where it fires, and how many these are.

    Parameters
    ----------
    firing
        bool ``(N, U)``.
    labels, predictions
        int64 ``(N,)``; pairs labelled ``-1`` are left out.

    Returns
    -------
    tuple
        float64 ``(U,)``, not a number for a unit that never fires, and int64 ``(U,)``.

    Raises
    ------
    InputError
        The three do not have one entry per pair.
    """
    if not len(firing) == len(labels) == len(predictions):
        raise InputError(
            f"firing of {len(firing)} pairs, {len(labels)} labels, {len(predictions)} predictions:"
            " give one of each per pair"
        )
    pairs = firing[labels >= 0].sum(0, dtype=np.int64)
    right = firing[(labels >= 0) & (labels == predictions)].sum(0, dtype=np.int64)
    return np.where(pairs > 0, right / np.maximum(pairs, 1), np.nan), pairs


def correlations_by_length(ious: Floats, accuracy: Floats, *, seed: int = 0) -> tuple[LengthRow, ...]:
    """Correlate accuracy when firing with IoU for every maximum length of the formulas.

    Parameters
    ----------
    ious
        float64 ``(U, L)``: the best IoU with at most 1 … L concepts (`ious_by_length`).
    accuracy
        float64 ``(U,)`` of `accuracy_when_firing`; not a number for units that are to be left out.
    """
    if len(ious) != len(accuracy):
        raise InputError(f"IoU of {len(ious)} units, accuracy of {len(accuracy)}: give both for the same units")
    chosen = np.isfinite(accuracy)
    ious, accuracy = ious[chosen], accuracy[chosen]
    rows = []
    for place in range(ious.shape[1] if len(ious) else 0):
        before = ious[:, place - 1] if place else np.zeros(len(ious))
        rows.append(
            LengthRow(
                length=place + 1,
                mean_iou=float(ious[:, place].mean()),
                gaining=float((ious[:, place] > before).mean()),
                pearson=correlate(ious[:, place], accuracy, "pearson", seed=seed),
                spearman=correlate(ious[:, place], accuracy, "spearman", seed=seed),
            )
        )
    return tuple(rows)


def ious_by_length(units: Sequence[UnitExplanation], length: int | None = None) -> Floats:
    """Return the best IoU of each unit with at most 1 … L concepts, float64 ``(U, L)``.

    ``length``: L; the longest that was searched where None. Where a search ended early the last one stays, and a unit
    without formula has 0.
    """
    most = length or max((row[0] for unit in units for row in unit.best_by_length), default=0)
    table = np.zeros((len(units), most), np.float64)
    for row, unit in enumerate(units):
        for at, _, iou in unit.best_by_length:
            table[row, at - 1 :] = np.maximum(table[row, at - 1 :], iou)
    return table
