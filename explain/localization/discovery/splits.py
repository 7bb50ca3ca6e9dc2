"""Which images a classifier is fitted on, and which it is judged on: always others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.errors import DataError, InputError, near

__all__ = ["Fold", "Split", "split_images"]


@dataclass(frozen=True)
class Fold:
    """Numbers of the images to fit on and of those to judge on, ascending."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """One or several folds, and how they were made, in words."""

    folds: tuple[Fold, ...]
    text: str

    @property
    def tested(self) -> NDArray[np.int64]:
        """The numbers of all images that some fold tests, ascending."""
        return np.sort(np.concatenate([fold.test for fold in self.folds]))


def split_images(
    labels: NDArray[np.int64], subsets: Sequence[str] | None, *, folds: int = 5, test: str | None = None, seed: int = 0
) -> Split:
    """Return the published split where there is one, else folds with equal shares of each label.

    Parameters
    ----------
    labels
        int64 ``(n,)``.
    subsets
        The subset of each image, where the data has them. Those of ``test`` are tested and those of ``train`` are
        fitted on (all others, where no subset is called ``train``).
    folds
        Number of folds, where the data has no subsets ``train`` and ``test`` and ``test`` is None: each image is tested
        once, by a classifier fitted on the other folds.
    test
        The subset to test.
    seed
        Of the folds.

    Raises
    ------
    InputError
        Fewer than two folds, or more than images.
    DataError
        No such subset, or nothing to fit on.
    """
    names = set(subsets or ())
    if test is None and {"train", "test"} <= names:
        test = "test"
    if test is not None:
        return _by_subset(subsets, names, test)
    if not 2 <= folds <= len(labels):
        raise InputError(f"{folds} folds of {len(labels)} images: give 2 to {len(labels)}")
    place = np.empty(len(labels), np.int64)
    rng = np.random.default_rng(seed)
    dealt = 0
    for label in np.unique(labels):  # dealt round, going on where the last label ended: folds of equal size
        own = rng.permutation(np.flatnonzero(labels == label))
        place[own] = (dealt + np.arange(len(own))) % folds
        dealt += len(own)
    made = tuple(Fold(np.flatnonzero(place != k), np.flatnonzero(place == k)) for k in range(folds))
    return Split(made, f"{folds} folds (seed {seed}), each image tested once by a classifier fitted on the other folds")


def _by_subset(subsets: Sequence[str] | None, names: set[str], test: str) -> Split:
    if test not in names:
        known = f"it has {', '.join(sorted(names))}" if names else "it has none (a column 'subset' of images.csv)"
        raise DataError(f"the data has no subset {test!r}{near(test, names)}: {known}")
    own = np.array([name == test for name in subsets or ()])
    rest = np.array([name == "train" for name in subsets or ()]) if "train" in names - {test} else ~own
    if not rest.any():
        raise DataError(f"all images are of the subset {test!r}: there is nothing to fit on; use folds")
    fold = Fold(np.flatnonzero(rest), np.flatnonzero(own))
    return Split((fold,), f"fitted on {len(fold.train)} images, tested on the {len(fold.test)} of the subset {test!r}")
