"""Labelled images as jobs take them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.data.opening import as_localization
from explain.errors import DataError, InputError, near
from explain.types import LocalizationSet

__all__ = ["check_limit", "label_names", "labels_of", "open_labelled", "train_and_test"]


def open_labelled(dataset: Any, *, subset: str | None = None, limit: int | None = None) -> LocalizationSet:
    """Return the images of a subset (all where None), the first ``limit`` of them.

    Raises
    ------
    DataError
        No such subset, no images, or images of one class only.
    """
    data = as_localization(dataset)
    if subset is not None:
        known = data.subsets or ()
        chosen = [number for number, name in enumerate(known) if name == subset]
        if not chosen:
            there = f"it has {', '.join(sorted(set(known)))}" if known else "images.csv has no column 'subset'"
            raise DataError(f"{data.name} has no subset {subset!r}{near(subset, set(known))}: {there}")
        data = data.select(chosen, f"{data.name} ({subset})")
    check_limit(limit)
    if limit is not None and limit < len(data):
        data = data.select(range(limit))
    if len(set(data.classes)) < 2:
        raise DataError(
            f"{data.name} has {len(data)} image(s) of {len(set(data.classes))} class(es): give images of at least two"
            + (" (the first images are of one class: leave the limit out)" if limit is not None else "")
        )
    return data


def train_and_test(train: LocalizationSet, test: LocalizationSet) -> LocalizationSet:
    """Return two sets as one with the subsets ``train`` and ``test``, for data that are published in two parts.

    Parameters
    ----------
    train, test
        Sets of the same classes.

    Raises
    ------
    DataError
        The frames differ.
    """
    if train.frame != test.frame:
        raise DataError(f"boxes of {train.name} are in the frame {train.frame!r}, of {test.name} in {test.frame!r}")
    return replace(
        train,
        name=train.name if train.name == test.name else f"{train.name} and {test.name}",
        images=[*train.images, *test.images],
        classes=train.classes + test.classes,
        boxes=train.boxes + test.boxes,
        sizes=train.sizes + test.sizes,
        names=train.names + test.names,
        hash=hashlib.sha256(f"{train.hash}{test.hash}".encode()).hexdigest(),
        class_names=train.class_names if train.class_names == test.class_names else None,
        subsets=("train",) * len(train) + ("test",) * len(test),
        masks=None,
    )


def check_limit(limit: int | None) -> None:
    """Refuse a limit without images."""
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: give at least 1 image")


def labels_of(data: LocalizationSet) -> NDArray[np.int64]:
    """Return the class of each image, int64 ``(n,)``."""
    return np.array(data.classes, np.int64)


def label_names(data: LocalizationSet, classes: Sequence[str] | None = None) -> dict[int, str]:
    """Return the name of each class that the data has: the data's own, else those of ``classes``, else the index."""
    names = data.class_names or classes or ()
    return {label: names[label] if label < len(names) else f"class {label}" for label in sorted(set(data.classes))}
