"""What `explain.text.analyses.flips` finds."""

from __future__ import annotations

from dataclasses import dataclass

from explain.findings.scores import Score
from explain.text.analyses.edits import Pair, Proposal

__all__ = ["FlipExample", "FlipRow", "Flips"]


@dataclass(frozen=True)
class FlipExample:
    """A pair whose answer an edit changed as proposed."""

    pair: int
    """Its number in the data."""
    before: Pair
    after: Pair
    label: int
    """The class before, which is the right one."""
    answer: int
    """The class after."""


@dataclass(frozen=True)
class FlipRow:
    """One proposed edit over all pairs it can be made in."""

    proposal: Proposal
    flips: Score
    """Percent of the pairs whose answer became the unit's class (or left it, where that was proposed)."""
    control: float
    """The same percentage with control words: the mean over a pair's controls, then over pairs."""
    gain: Score
    """By how many points the share exceeds that of the controls; the interval is a bootstrap over pairs."""
    changed: float
    """Percent of the pairs whose answer changed to whatever class."""
    controls: tuple[str, ...]
    """Words that served as controls, the most frequent ones first."""
    examples: tuple[FlipExample, ...]


@dataclass(frozen=True)
class Flips:
    """All proposed edits, and the sums over them."""

    rows: tuple[FlipRow, ...]
    """As proposed; edits that can be made in no pair are left out."""
    pairs: int
    """Correctly classified pairs that were edited."""
    gains: dict[str, Score]
    """``"insert"``, ``"remove"`` and ``"all"``: mean gain over (edit, pair) in points, bootstrap over pairs."""
    skipped: int
    """Proposals that could be made in no pair, or had no control."""
