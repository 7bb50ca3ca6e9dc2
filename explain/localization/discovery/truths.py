"""Which images show a concept, and where: from probe sets (masks) and labelled images (boxes)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.data import as_localization, as_probe, open_data
from explain.data.labelled import check_limit, labels_of, open_labelled
from explain.errors import InputError, near
from explain.findings.result import Source, source_of
from explain.opencv import components
from explain.types import LocalizationSet, ProbeSet

__all__ = ["ConceptData", "Truth", "concept_data", "open_probe_set"]

_LOOK = (112, 112)
"""Pixels at which it is decided whether an image shows a concept."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Where a concept is in one image."""

    mask: NDArray[np.bool_]
    """``(h, w)``."""
    boxes: NDArray[np.float64]
    """``(m, 4)``: half-open xyxy in the mask's pixels; any of them counts."""


@dataclass(frozen=True, eq=False)
class ConceptData:
    """Images, and which of them show which concept."""

    source: Source
    images: Sequence[Any]
    concepts: tuple[str, ...]
    positive: NDArray[np.bool_]
    """``(n, k)``."""
    subsets: Sequence[str] | None
    truth: Callable[[int, tuple[int, int]], Mapping[int, Truth]]
    """``truth(image, (h, w))``: where each of its concepts is, by number; none for concepts of whole images."""


def open_probe_set(probe: Any, limit: int | None) -> ProbeSet:
    """Return a probe set, the first ``limit`` images of it."""
    found = as_probe(probe)
    check_limit(limit)
    return found if limit is None else found.first(limit)


def concept_data(
    dataset: Any, concepts: Sequence[str], *, subset: str | None = None, limit: int | None = None
) -> ConceptData:
    """Return the images of a data set and which of them show each concept.

    Parameters
    ----------
    dataset
        A probe set, labelled images, or what can be opened as either; a folder that is both is taken as a probe set.
    concepts
        Names of concepts; for labelled images those of classes, or their indices.

    Raises
    ------
    InputError
        No concepts, or unknown ones; a subset of a probe set.
    """
    wanted = [concepts] if isinstance(concepts, str) else list(dict.fromkeys(concepts))
    if not wanted:
        raise InputError("no concepts were given: name at least one")
    data = open_data(dataset) if isinstance(dataset, (str, Path)) else dataset
    if isinstance(data, ProbeSet) or (isinstance(data, tuple) and len(data) == 3):
        if subset is not None:
            raise InputError(f"subset {subset!r}: a probe set has none")
        return _of_probe(open_probe_set(as_probe(data), limit), wanted)
    return _of_labelled(open_labelled(as_localization(data), subset=subset, limit=limit), wanted)


def _of_probe(probe: ProbeSet, wanted: list[str]) -> ConceptData:
    known = [concept.name for concept in probe.concepts]
    for name in wanted:
        if name not in known:
            raise InputError(f"{probe.name} has no concept {name!r}{near(name, known)}")
    numbers = np.array([known.index(name) for name in wanted])
    positive = np.zeros((len(probe), len(numbers)), np.bool_)
    for row in range(len(probe)):
        labels = probe.labels(row, _LOOK)
        positive[row] = np.isin(numbers, labels.maps) | np.isin(numbers, labels.whole)
    truth = partial(_probe_truth, probe, numbers)
    return ConceptData(source_of(probe), probe.images, tuple(wanted), positive, None, truth)


def _probe_truth(probe: ProbeSet, numbers: NDArray[np.int64], row: int, size: tuple[int, int]) -> dict[int, Truth]:
    labels = probe.labels(row, size)
    found = {}
    for k, number in enumerate(numbers.tolist()):
        mask = (labels.maps == number).any(0)
        if mask.any():
            found[k] = Truth(mask, components(mask).boxes.astype(np.float64))
    return found


def _of_labelled(data: LocalizationSet, wanted: list[str]) -> ConceptData:
    numbers = np.array([_class_of(data, name) for name in wanted])
    names = [data.class_names[k] if data.class_names is not None else f"class {k}" for k in numbers.tolist()]
    positive = labels_of(data)[:, None] == numbers
    truth = partial(_labelled_truth, data, numbers)
    return ConceptData(source_of(data), data.images, tuple(names), positive, data.subsets, truth)


def _class_of(data: LocalizationSet, wanted: str) -> int:
    names = data.class_names or ()
    if wanted in names:
        return names.index(wanted)
    if wanted.isdigit() and int(wanted) in data.classes:
        return int(wanted)
    some = ", ".join(map(str, sorted(set(data.classes))[:8]))
    hint = near(wanted, names) if names else f": its classes have no names, give an index ({some}…)"
    raise InputError(f"{data.name} has no class {wanted!r}{hint}")


def _labelled_truth(
    data: LocalizationSet, numbers: NDArray[np.int64], row: int, size: tuple[int, int]
) -> dict[int, Truth]:
    height, width = data.sizes[row]
    boxes = data.boxes[row] * np.array([size[1] / width, size[0] / height] * 2)
    if len(boxes) == 0:
        return {}
    mask = np.zeros(size, np.bool_)
    for x0, y0, x1, y1 in np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).clip(0).astype(int):
        mask[y0:y1, x0:x1] = True
    return {k: Truth(mask, boxes) for k in np.flatnonzero(numbers == data.classes[row]).tolist()}
