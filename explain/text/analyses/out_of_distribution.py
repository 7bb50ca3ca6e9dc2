"""Accuracy on pairs that were made to be different, such as Breaking NLI (Glockner et al. 2018), by category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError
from explain.findings.scores import Score, proportion

__all__ = ["CategoryAccuracy", "OutOfDistribution", "out_of_distribution"]


@dataclass(frozen=True)
class CategoryAccuracy:
    """How the model does on one category of pairs."""

    category: str
    accuracy: Score
    """Percent."""
    predicted: tuple[int, ...]
    """Pairs by predicted class."""
    labelled: tuple[int, ...]
    """Pairs by label."""


@dataclass(frozen=True)
class OutOfDistribution:
    """Accuracy on other data than the model was explained on, in percent."""

    accuracy: Score
    majority: Score
    """What always answering the most frequent label would give."""
    categories: tuple[CategoryAccuracy, ...]
    """By falling number of pairs, then by name; none where the data has no categories."""


def out_of_distribution(
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    categories: Sequence[str] | None = None,
    classes: int = 3,
) -> OutOfDistribution:
    """Return the accuracy in all and in each category, with Wilson's intervals.

    Parameters
    ----------
    labels, predictions
        int64 ``(N,)``; pairs labelled ``-1`` are left out.
    categories
        One name per pair; None where there are none.
    classes
        How many there are.

    Raises
    ------
    InputError
        The numbers of labels, predictions and categories differ.
    """
    names = categories if categories is not None else [""] * len(labels)
    if not len(labels) == len(predictions) == len(names):
        raise InputError(
            f"{len(labels)} labels, {len(predictions)} predictions, {len(names)} categories: give one of each per pair"
        )
    known = labels >= 0
    kinds, numbers = np.unique(np.asarray(names, np.str_), return_inverse=True)
    hits = known & (labels == predictions)
    counts = np.bincount(labels[known], minlength=classes)
    rows = [
        _category(str(kind), labels[chosen], predictions[chosen], classes)
        for number, kind in enumerate(kinds.tolist())
        if categories is not None and (chosen := known & (numbers == number)).any()
    ]
    return OutOfDistribution(
        accuracy=proportion(hits[known]),
        majority=proportion(labels[known] == counts.argmax()),
        categories=tuple(sorted(rows, key=lambda row: (-row.accuracy.n, row.category))),
    )


def _category(name: str, labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> CategoryAccuracy:
    return CategoryAccuracy(
        category=name,
        accuracy=proportion(labels == predictions),
        predicted=tuple(np.bincount(predictions, minlength=classes).tolist()),
        labelled=tuple(np.bincount(labels, minlength=classes).tolist()),
    )
