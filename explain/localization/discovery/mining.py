"""Hard-negative mining for a linear concept detector, and how well a detector ranks images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError
from explain.localization.discovery.svm import fit_svm
from explain.localization.metrics import Score

__all__ = ["Detector", "Round", "average_precision", "mine", "precision_interval"]

_MARGIN = -1.0
"""A negative above this score lies inside the margin or on the wrong side of it: it is hard."""
_FEWEST = 10
"""Negatives to start from, where the positives ask for fewer."""


@dataclass(frozen=True)
class Round:
    """One round of mining: the negatives that were fitted on, and how many of the others turned out to be hard."""

    negatives: int
    hard: int


@dataclass(frozen=True, eq=False)
class Detector:
    """A linear detector: ``features @ weight + bias``, 1 and -1 are the margins."""

    weight: NDArray[np.float64]
    """``(c,)``."""
    bias: float
    rounds: tuple[Round, ...]
    negatives: NDArray[np.int64]
    """Rows of the negatives it was fitted on, ascending."""

    def scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Return ``(n,)`` for features ``(n, c)``."""
        found: NDArray[np.float64] = features.astype(np.float64) @ self.weight + self.bias
        return found


def mine(
    features: NDArray[Any],
    positive: NDArray[np.bool_],
    *,
    rounds: int = 10,
    ratio: float = 1.0,
    c: float = 1.0,
    seed: int = 0,
) -> Detector:
    """Learn a detector from a positive set and a pool of negatives by hard-negative mining.

    Zhou et al. 2016 (section 4.2) learn concept detectors so, by the algorithm of Zhou, Jagadeesh and Piramuthu 2015.
    It starts from random negatives, ``ratio`` to a positive. Each round fits an SVM, scores the rest of the pool, and
    takes in the hard ones (score above -1), the hardest first and at most as many as there are negatives already; it
    ends when none is left, or after ``rounds``.

    Parameters
    ----------
    features
        ``(n, c)``.
    positive
        bool ``(n,)``: the positive set; all others are the pool.
    rounds
        How often an SVM is fitted at most; 1 is no mining.
    ratio
        Negatives to start from, for each positive.
    c
        Of the SVM; see `fit_svm`.
    seed
        Of the first negatives.

    Raises
    ------
    InputError
        No positive or no negative, or options out of range.
    """
    pool = np.flatnonzero(~positive)
    own = np.flatnonzero(positive)
    if len(own) == 0 or len(pool) == 0:
        raise InputError(f"{len(own)} positive and {len(pool)} negative images: a detector needs both")
    if rounds < 1 or not ratio > 0:
        raise InputError(f"rounds={rounds}, ratio={ratio}: give at least 1 round, and a ratio above 0")
    start = min(len(pool), max(_FEWEST, round(ratio * len(own))))
    chosen = np.sort(np.random.default_rng(seed).choice(pool, start, replace=False))
    told: list[Round] = []
    while True:
        rows = np.concatenate([own, chosen])
        svm = fit_svm(features[rows], positive[rows].astype(np.int64), c=c)
        rest = np.setdiff1d(pool, chosen)
        scores = svm.scores(features[rest])[:, 1] if len(rest) else np.zeros(0)
        hard = np.flatnonzero(scores > _MARGIN)
        told.append(Round(len(chosen), len(hard)))
        if len(hard) == 0 or len(told) == rounds:
            return Detector(svm.weight[1], float(svm.bias[1]), tuple(told), chosen)
        hardest = hard[np.argsort(-scores[hard], kind="stable")[: len(chosen)]]
        chosen = np.sort(np.concatenate([chosen, rest[hardest]]))


def average_precision(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the average precision of a ranking: the mean over positives of the precision at their score.

    Images of equal score are one step of the curve, as no order among them is known. nan without positives.

    Parameters
    ----------
    scores
        float64 ``(n,)``: higher is better.
    positive
        bool ``(n,)``.
    """
    return float(_weighted(scores, positive, np.ones((1, len(scores))))[0])


def precision_interval(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], *, replicates: int = 1000, seed: int = 0
) -> Score:
    """Return the average precision in percent with a 95 % interval: a bootstrap over positives and over negatives."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((replicates, len(scores)))
    for rows in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        if len(rows):
            weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), replicates)
    value = 100 * average_precision(scores, positive)
    low, high = np.quantile(100 * _weighted(scores, positive, weights), [0.025, 0.975])
    return Score(value, min(float(low), value), max(float(high), value), int(positive.sum()))


def _weighted(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the average precision ``(r,)`` if image ``i`` counts ``weights[:, i]`` times; ``(r, n)``."""
    order = np.argsort(-scores, kind="stable")
    steps = np.flatnonzero(np.diff(scores[order], prepend=np.inf))  # where a new score begins
    hits = np.add.reduceat(weights[:, order] * positive[order], steps, axis=1)
    every = np.add.reduceat(weights[:, order], steps, axis=1).cumsum(1)
    precision = np.divide(hits.cumsum(1), every, out=np.zeros_like(every), where=every > 0)
    total = hits.sum(1)
    found: NDArray[np.float64] = np.divide(
        (hits * precision).sum(1), total, out=np.full(len(total), np.nan), where=total > 0
    )
    return found
