"""Which words give a label away: pointwise mutual information of each concept with each class.

``PMI(c, k) = log p(c, k) / (p(c) p(k))`` over (pair, concept) incidences, with 100 added to every count of a concept
and a class, so that rare words do not lead (Gururangan et al. 2018, section 3; Mu & Andreas 2020, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError

__all__ = ["SMOOTHING", "Associated", "class_counts", "class_pmi", "leading"]

SMOOTHING = 100.0
"""What the published analysis adds to every count."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Associated:
    """One concept and how it goes with one class."""

    concept: str
    pmi: float
    """In nats; above 0: seen more often with this class than by chance."""
    counts: tuple[int, ...]
    """Pairs with the concept, by class."""


def class_counts(indptr: Ints, indices: NDArray[np.integer], labels: Ints, concepts: int, classes: int = 3) -> Ints:
    """Count the pairs that have each concept, by class.

    Parameters
    ----------
    indptr, indices
        ``(N + 1,)`` and flat: pair i has the concepts ``indices[indptr[i]:indptr[i + 1]]``, each once.
    labels
        int64 ``(N,)``: the class of each pair; pairs of ``-1`` have none and are left out.
    concepts, classes
        How many there are.

    Returns
    -------
    NDArray
        int64 ``(concepts, classes)``.

    Raises
    ------
    InputError
        Labels do not match the pairs, or are no classes.
    """
    if len(labels) != len(indptr) - 1:
        raise InputError(f"{len(labels)} labels for {len(indptr) - 1} pairs: give one per pair")
    if len(labels) and not -1 <= labels.min() <= labels.max() < classes:
        raise InputError(f"labels run from {labels.min()} to {labels.max()}: give 0 to {classes - 1}, or -1 for none")
    own = np.repeat(np.asarray(labels, np.int64), np.diff(indptr))
    known = own >= 0
    keys = indices[known].astype(np.int64) * classes + own[known]
    return np.bincount(keys, minlength=concepts * classes).astype(np.int64).reshape(concepts, classes)


def class_pmi(counts: Ints, smoothing: float = SMOOTHING) -> NDArray[np.float64]:
    """Return the PMI of each concept with each class, in nats, float64 ``(C, K)``.

    Parameters
    ----------
    counts
        int64 ``(C, K)`` of `class_counts`.
    smoothing
        Added to each of them; 0 gives minus infinity where a concept and a class never meet.
    """
    if not smoothing >= 0:
        raise InputError(f"smoothing {smoothing}: give 0 or more (published: {SMOOTHING:g})")
    raised = counts + float(smoothing)
    total, rows, columns = raised.sum(), raised.sum(1, keepdims=True), raised.sum(0, keepdims=True)
    expected = rows * columns
    with np.errstate(divide="ignore"):  # log 0 is what it is
        shares = np.divide(raised * total, expected, out=np.zeros_like(raised), where=expected > 0)
        return np.asarray(np.log(shares), np.float64)


def leading(
    pmi: NDArray[np.float64], counts: Ints, names: Sequence[str], top: int = 10
) -> tuple[tuple[Associated, ...], ...]:
    """Return, for each class, the ``top`` concepts of the highest PMI; of equal ones the more frequent one first."""
    found = []
    for label in range(pmi.shape[1]):
        order = np.lexsort((-counts.sum(1), -pmi[:, label]))[:top]
        found.append(
            tuple(Associated(names[row], float(pmi[row, label]), tuple(counts[row].tolist())) for row in order.tolist())
        )
    return tuple(found)
