"""What the network said of pasted pictures, counted: per pair and over all, with intervals, against the controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.nets.passes import Arrays
from explain.neurons.effects.clusters import Estimate, Resampling, clustered_means
from explain.neurons.effects.trials import ARMS, Trials

__all__ = ["ArmResult", "Counted", "Result", "Told", "count_outcomes", "outcomes_of"]

SUCCESS, SOURCE, OWN, OTHER = range(4)
"""What came out: the target class, the photo's own class, the class of what was pasted, any other class."""


@dataclass(frozen=True)
class ArmResult:
    """What came of one kind of thing that was pasted. The first three add up to 1 with ``own``."""

    arm: str
    success: Estimate
    """The network says the target class."""
    other: Estimate
    """It says a class that is neither the target, the source, nor what it sees in the cut-out alone."""
    source: Estimate
    """It says the photo's class as before."""
    own: Estimate
    """It says what it sees in the cut-out alone."""
    change: Estimate
    """Of (logit of the target, less that of the source), against the photo without the paste."""
    share: float
    """Mean share of the photo that was covered."""


@dataclass(frozen=True)
class Counted:
    """The arms, and how much more often the concept succeeds than each control, on the same places."""

    images: int
    cutouts: int
    trials: int
    arms: tuple[ArmResult, ...]
    against: tuple[tuple[str, Estimate, Estimate], ...]
    """(control, difference in success, difference in the change of logits)."""

    def arm(self, name: str) -> ArmResult | None:
        """Return one arm; None where no pair had it."""
        return next((one for one in self.arms if one.arm == name), None)


Result = NDArray[np.float64]
"""``(trials, arms, 6)``: success, other, source, own, change of logits, share covered; nan where an arm is missing."""


@dataclass(frozen=True, eq=False)
class Told:
    """What a network says of photos before anything is pasted, and of cut-outs on a plain ground."""

    before: NDArray[np.float32]
    """``(n, 2)``: of each row of the trials, the logits of source and target without the paste."""
    own: NDArray[np.int64]
    """``(n,)``: of each row, the class of its cut-out alone."""


def outcomes_of(
    trials: Trials, source: NDArray[np.int64], target: NDArray[np.int64], rows: Arrays, told: Told
) -> Result:
    """Return what came of each trial.

    Parameters
    ----------
    source, target
        ``(n,)``: the classes of each row.
    rows
        ``predicted`` ``(n,)`` and ``logits`` ``(n, 2)`` (of source and target) of the pasted pictures.
    """
    predicted = rows["predicted"]
    code = np.select([predicted == target, predicted == source, predicted == told.own], [SUCCESS, SOURCE, OWN], OTHER)
    after, before = (value[:, 1] - value[:, 0] for value in (rows["logits"].astype(float), told.before.astype(float)))
    found = np.full((int(trials.trial.max()) + 1, len(ARMS), 6), np.nan)
    at = trials.trial, trials.arm
    for column, kind in enumerate((SUCCESS, OTHER, SOURCE, OWN)):
        found[(*at, column)] = code == kind
    found[(*at, 4)], found[(*at, 5)] = after - before, trials.share
    return found


def count_outcomes(
    result: Result, images: NDArray[np.int64], cutouts: NDArray[np.int64], resampling: Resampling
) -> Counted:
    """Return rates and differences over some trials; ``images, cutouts`` ``(trials,)`` say of which each trial is."""
    arms, against = [], []
    for number, name in enumerate(ARMS):
        there = np.isfinite(result[:, number, 0])
        if not there.any():
            continue
        values, concept = result[there, number], result[there, 0]
        columns = np.concatenate([values[:, :5], concept[:, [0, 4]] - values[:, [0, 4]]], 1)
        found = clustered_means(columns, images[there], cutouts[there], resampling)
        success, other, source, own, change = found[:5]
        arms.append(ArmResult(name, success, other, source, own, change, float(values[:, 5].mean())))
        if number:
            against.append((name, found[5], found[6]))
    return Counted(len(set(images.tolist())), len(set(cutouts.tolist())), len(result), tuple(arms), tuple(against))
