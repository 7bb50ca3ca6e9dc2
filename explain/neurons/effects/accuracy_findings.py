"""What is found of accuracy when active, as data."""

from __future__ import annotations

from dataclasses import dataclass

from explain.findings.scores import Score
from explain.neurons.effects.correlating import Correlation, Method

__all__ = ["AccuracyFindings", "AreaBin", "CorrelationRow", "UnitAccuracy"]


@dataclass(frozen=True)
class UnitAccuracy:
    """How often the network is right on the images where one unit fires."""

    unit: int
    formula: str | None
    iou: float
    iou_heldout: float | None
    """None where the run has no evidence."""
    images: int
    """Where it fires."""
    right: int
    """Of these, those whose class the network names."""
    accuracy: Score | None
    """Percent, with Wilson's interval; None for a unit that never fires on these images."""
    by_area: tuple[tuple[int, int], ...]
    """(images, right) for each bin of the firing area."""


@dataclass(frozen=True)
class AreaBin:
    """Pairs of a unit and an image in which so many cells of its map fire."""

    low: int
    high: int
    """Cells, both included."""
    pairs: int
    accuracy: Score
    """Percent of the pairs whose image is classified right; the interval is a bootstrap over images."""
    pearson: Correlation | None
    """Over units: IoU and accuracy in this bin."""


@dataclass(frozen=True)
class CorrelationRow:
    """What the accuracy when active is correlated with."""

    of: str
    """``"iou"``, ``"iou_heldout"``, ``"iou_length_2"`` (at most two concepts), ``"iou_heldout_length_2"``."""
    method: Method
    correlation: Correlation


@dataclass(frozen=True)
class AccuracyFindings:
    """Accuracy when active of every unit, and what it goes with."""

    images: int
    labels: int
    """Classes that the images have."""
    cells: int
    """Of a unit's map."""
    top1: Score
    """On all images, percent."""
    fired: int
    """Units that fire on some image."""
    least: int
    """Units that fire on fewer images are not correlated."""
    correlated: int
    mean: float | None
    """Mean of the correlated units' accuracy, percent."""
    correlations: tuple[CorrelationRow, ...]
    bins: tuple[AreaBin, ...]
    units: dict[int, UnitAccuracy]
    """By the unit's number."""
