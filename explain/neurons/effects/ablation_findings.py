"""What is found of ablation, as data."""

from __future__ import annotations

from dataclasses import dataclass

from explain.findings.result import Difference
from explain.findings.scores import Score

__all__ = [
    "AblationFindings",
    "ClassEffect",
    "ConceptEffect",
    "Estimate",
    "GroupEffect",
    "UnitAblation",
    "UnitEffect",
    "Versus",
]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, a bootstrap over images."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 1 if max(abs(self.low), abs(self.high)) >= 10 else 2
        return f"{self.value:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]"


@dataclass(frozen=True)
class Versus:
    """What an edit does beside random edits of the same size."""

    groups: int
    """Random groups."""
    mean: float
    """Their mean change of accuracy, in points."""
    low: float
    """The 2.5 % point of their changes."""
    high: float
    difference: Estimate
    """The edit's change less theirs, in points; images and random groups are drawn anew."""
    p: float
    """Share of random groups, and of the edit itself, with as large a loss."""


@dataclass(frozen=True)
class UnitEffect:
    """What replacing one unit does."""

    accuracy: Difference
    """Change of accuracy, in points; ``worse``: images that were right only before."""
    p: float
    """McNemar's exact test that as many images become right as wrong."""
    q: float
    """The same over all units tested (Benjamini & Hochberg 1995)."""
    logit: Estimate
    """Change of the logit of the image's label: the mean over images."""
    changed: float
    """Images whose predicted class changes, in percent."""
    p_alike: float | None
    """Share of units like it in activation, and of itself, that lower the label's logit as much; None without such."""
    hurt: tuple[int, str, float, int] | None
    """(class, name, change in points, images) of the class that loses most; None where no class has enough images."""


@dataclass(frozen=True)
class ConceptEffect:
    """What removing a unit does to images in which its formula holds, and to the others."""

    holds: int
    """Images where the formula holds somewhere."""
    others: int
    changed_holds: float | None
    """Of them, images whose predicted class changes, in percent; None without such images."""
    changed_others: float | None
    logit_holds: float | None
    """Change of the logit of the class that was predicted, the mean over the images."""
    logit_others: float | None
    difference: Estimate | None
    """The first change of logit less the second; None with fewer than five images of one kind."""


@dataclass(frozen=True)
class UnitAblation:
    """One unit: what it was explained as, and what replacing it does."""

    unit: int
    formula: str | None
    iou: float
    effects: dict[str, UnitEffect]
    """By replacement."""
    concept: ConceptEffect | None
    """For the first replacement; None without formula or masks."""


@dataclass(frozen=True)
class GroupEffect:
    """What replacing a group does, or all but the group (``kept``)."""

    name: str
    replacement: str
    kept: bool
    units: tuple[int, ...]
    before: Score
    after: Score
    accuracy: Difference
    logit: Estimate
    versus: Versus | None
    """None where too few units are left for random groups."""
    seen: Difference | None = None
    """On photos the network was trained on, where the others are known."""
    unseen: Difference | None = None


@dataclass(frozen=True)
class ClassEffect:
    """Removing the units most important for one class, and keeping only those (Bau et al. 2020, figure 4)."""

    label: int
    name: str
    replacement: str
    images: int
    units: tuple[int, ...]
    before: Score
    """Accuracy on the class's images."""
    removed: Score
    kept: Score
    removed_random: float | None
    """Mean over random groups; None without such."""
    kept_random: float | None
    balanced_before: float
    """Mean of the share of the class's images that get it, and of the others that do not, in percent."""
    balanced_removed: float
    balanced_kept: float
    balanced_removed_random: float | None
    balanced_kept_random: float | None
    p_removed: float | None
    """Share of random groups, and of the group itself, with as low a balanced accuracy."""


@dataclass(frozen=True)
class AblationFindings:
    """What replacing units, and groups of them, does to the predictions."""

    images: int
    accuracy: Score
    closed: bool
    """In closed form."""
    how: str
    """How ablated logits were found."""
    replacements: tuple[str, ...]
    least: int
    """Images that a class must have to be looked at by itself."""
    counted_classes: int
    """Classes that have them."""
    found: dict[str, int]
    """By replacement: units whose effect on accuracy is told from none at a false discovery rate of 5 %."""
    concept_units: int
    """Units with an effect on their concept's images and on others to compare."""
    concept_found: int
    """Of these, units that lower the logit more where their formula holds: the interval lies below 0."""
    units: dict[int, UnitAblation]
    """By the unit's number."""
    groups: tuple[GroupEffect, ...]
    classes: tuple[ClassEffect, ...]
