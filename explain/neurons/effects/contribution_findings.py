"""What is found of contributions, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "BetweenLayers",
    "ClassContributions",
    "ClassUnit",
    "ContributionFindings",
    "Measure",
    "Pair",
    "UnitContributions",
]


@dataclass(frozen=True)
class ClassUnit:
    """What one unit gives to one class."""

    unit: int
    formula: str | None
    weight: float
    """By how much the class's logit rises with the unit's mean activation: the mean over the class's images."""
    contribution: float
    """Of the class's logit: weight times mean activation, the mean over the class's images."""
    low: float | None
    """Ends of the contribution's 95 % interval, a bootstrap over the class's images; None for a single image."""
    high: float | None


@dataclass(frozen=True)
class ClassContributions:
    """The units that a class relies on ("class-specific units", Zhou et al. 2016), and those that speak against it."""

    label: int
    name: str
    images: int
    logit: float
    """The class's own, the mean over its images."""
    constant: float | None
    """What of it no unit gives; None where the head is not affine."""
    top: tuple[ClassUnit, ...]
    bottom: tuple[ClassUnit, ...]


@dataclass(frozen=True)
class UnitContributions:
    """What one unit gives to the classes, and gets from units before it."""

    unit: int
    formula: str | None
    iou: float
    most: tuple[tuple[int, str, float], ...]
    """(class, its name, contribution) of the classes to which it gives most."""
    least: tuple[tuple[int, str, float], ...]
    among_top: int
    """Classes that have it among their top units."""
    among_bottom: int
    sources: dict[str, dict[str, tuple[tuple[int, float], ...]]] = field(default_factory=dict)
    """Of each measure of `BetweenLayers`: ``contributors`` and ``inhibitors``, (unit of the layer before, value)."""


@dataclass(frozen=True)
class Pair:
    """A unit, and a unit of the layer before."""

    unit: int
    source: int
    value: float


@dataclass(frozen=True)
class Measure:
    """One way to say what units of one layer are to those of the next (Mu & Andreas 2020)."""

    name: str
    """``"weight"``, ``"correlation"``, ``"overlap"``, ``"inhibition"``."""
    low: float
    """Inhibitors are the pairs below: the 1 % quantile of all pairs."""
    high: float
    """Contributors are the pairs above: the 99 % quantile."""
    contributors: int
    inhibitors: int
    top: tuple[Pair, ...]
    bottom: tuple[Pair, ...]


@dataclass(frozen=True)
class BetweenLayers:
    """Units of this layer and those of a layer before it."""

    layer: str
    """The layer before."""
    units: int
    formulas: dict[int, str | None]
    """Of its units, where a run explains them."""
    measures: tuple[Measure, ...]
    no_weight: str
    """Why there is no weight; empty where there is one."""


@dataclass(frozen=True)
class ContributionFindings:
    """Units to classes, and units to units."""

    head: str
    """``"exact"``: the head is affine in the mean of the maps; ``"gradient"``: derivatives at each image."""
    rank: str
    """``"contribution"`` or ``"weight"``: what the units of a class are ordered by."""
    images: int
    residual: float | None
    """``max |sum of contributions + constant - logit| / max |logit|`` over images; None where it need not be 0."""
    classes: tuple[ClassContributions, ...]
    """The classes that the images have."""
    units: dict[int, UnitContributions]
    """By the unit's number."""
    between: BetweenLayers | None = None
