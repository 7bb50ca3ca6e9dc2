"""Other scores of a formula as a detector of a unit, from the same four counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Scores", "scores_of"]


@dataclass(frozen=True)
class Scores:
    """The formula as prediction, the unit's activity as truth, over all counted pixels; 0 / 0 is 0."""

    precision: float
    """Share of the formula's pixels where the unit is active."""
    recall: float
    """Share of the unit's active pixels where the formula holds."""
    f1: float
    correlation: float
    """Pearson's, of two binary variables (Matthews' coefficient)."""


def scores_of(shared: int, pixels: int, active: int, total: int) -> Scores:
    """Return the scores of a formula of ``pixels`` pixels, ``shared`` of them among the unit's ``active`` ones."""
    spread = pixels * active * (total - pixels) * (total - active)  # whole numbers: exact at any size
    covariance = shared * total - pixels * active
    return Scores(
        precision=shared / pixels if pixels else 0.0,
        recall=shared / active if active else 0.0,
        f1=2 * shared / (pixels + active) if pixels + active else 0.0,
        correlation=covariance / math.sqrt(spread) if spread else 0.0,
    )
