"""What the model answers where a formula holds: labels against predictions, and how mixed the labels are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError

__all__ = ["Confusion", "confusion", "entropy"]


@dataclass(frozen=True)
class Confusion:
    """The pairs where a formula holds, by label and prediction."""

    counts: tuple[tuple[int, ...], ...]
    """``counts[label][prediction]``."""
    pairs: int
    """Pairs with a label where the formula holds."""
    accuracy: float
    """Share of them that is classified correctly; 0 without pairs."""
    label_entropy: float
    """Of the labels, in bits: 0 where all agree, log2(3) = 1.58 where three classes are equally frequent."""
    prediction_entropy: float
    """The same of the predictions: lower than the labels' where the model takes the formula for a cue."""


def confusion(
    holds: NDArray[np.bool_], labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int = 3
) -> Confusion:
    """Return what happens where a formula holds.

    Parameters
    ----------
    holds
        bool ``(N,)``: where the formula holds.
    labels, predictions
        int64 ``(N,)``; pairs labelled ``-1`` are left out.
    classes
        How many there are.

    Raises
    ------
    InputError
        The three do not have one entry per pair.
    """
    if not len(holds) == len(labels) == len(predictions):
        raise InputError(
            f"{len(holds)} pairs, {len(labels)} labels, {len(predictions)} predictions: give one of each per pair"
        )
    chosen = holds & (labels >= 0)
    keys = labels[chosen] * classes + predictions[chosen]
    counts = np.bincount(keys, minlength=classes * classes).reshape(classes, classes)
    pairs = int(counts.sum())
    return Confusion(
        counts=tuple(tuple(row) for row in counts.tolist()),
        pairs=pairs,
        accuracy=int(np.trace(counts)) / pairs if pairs else 0.0,
        label_entropy=entropy(counts.sum(1)),
        prediction_entropy=entropy(counts.sum(0)),
    )


def entropy(counts: NDArray[np.int64]) -> float:
    """Return Shannon's entropy of counts ``(K,)`` in bits; 0 where there are none."""
    seen = counts[counts > 0]
    if not len(seen):
        return 0.0
    shares = seen / seen.sum()
    return float(max(0.0, -(shares * np.log2(shares)).sum()))
