"""From what a reader found to a ``LocalizationSet``: checks of boxes, grouping by image, the data hash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explain.data.object_masks import Masks
from explain.data.tables import Report, files_hash
from explain.types import Edges, LocalizationSet

__all__ = ["FoundBox", "Item", "assembled", "boxes_of", "fitting", "grouped"]


@dataclass(frozen=True)
class Item:
    """One row of a localization set: an image with one class."""

    name: str
    image: Path
    label: int
    size: tuple[int, int]
    """(height, width)"""
    where: str
    """The file and line that it comes from."""


@dataclass(frozen=True)
class FoundBox:
    """A box of one item."""

    item: int
    box: tuple[float, float, float, float]
    """Half-open, pixels counted from 0."""
    told: str
    """Where it stands and how it is written there, for messages."""


def _origin_hint(boxes: NDArray[np.float64], over: NDArray[np.float64], origin: int) -> str:
    if origin == 1 and (boxes[:, :2] == -1).any():
        return " (pixels count from 1 in this format and some edge is 0: the boxes look 0-based, add 1)"
    if origin == 0 and (boxes[:, :2] >= 1).all() and over.max() == 1:
        return " (no edge lies at 0 and some lie one pixel beyond the image: the boxes look 1-based, subtract 1)"
    return ""


def fitting(
    boxes: NDArray[np.float64],
    sizes: ArrayLike,
    told: Callable[[int], str],
    report: Report,
    *,
    slack: float = 0.0,
    origin: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Hold boxes against their images; return them clipped, and which of them are fine.

    Parameters
    ----------
    boxes : ndarray ``(n, 4)``
        Half-open, in pixels counted from 0.
    sizes : array ``(n, 2)``
        (height, width) of the image of each box.
    told : callable
        Says of box ``i`` where it stands and how it is written there.
    report : callable
        Told about boxes that are empty or leave their image.
    slack : float
        By how many pixels a right or lower edge may exceed the image before it is a problem.
    origin : {0, 1}
        Where the format counts from; boxes that look as if counted from the other are told so.
    """
    if not len(boxes):
        return boxes, np.ones(0, bool)
    limits = np.asarray(sizes, np.float64)[:, ::-1]
    over = (boxes[:, 2:] - limits).max(1)
    outside = (boxes[:, :2] < 0).any(1) | (over > slack)
    clipped = np.concatenate([boxes[:, :2], np.minimum(boxes[:, 2:], limits)], axis=1)
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(1) | (~outside & (clipped[:, 2:] <= clipped[:, :2]).any(1))
    hint = _origin_hint(boxes, over, origin) if outside.any() else ""
    for index in np.flatnonzero(empty | outside).tolist():
        width, height = limits[index]
        if empty[index]:
            report(f"{told(index)} is empty or inside out: x1 and y1 lie beyond x0 and y0; correct or drop it")
        else:
            report(f"{told(index)} leaves its image of {width:g}x{height:g} pixels{hint}: correct box or image size")
    return clipped, ~(empty | outside)


def grouped(boxes: NDArray[np.float64], owners: NDArray[np.integer], count: int) -> tuple[NDArray[np.float64], ...]:
    """Return the boxes of each of ``count`` images, in the order they came."""
    order = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[order], np.arange(count + 1))
    ordered = boxes[order]
    return tuple(ordered[start:end] for start, end in pairwise(bounds))


def boxes_of(
    items: Sequence[Item], found: Sequence[FoundBox], report: Report, *, slack: float = 1.0, origin: int = 0
) -> tuple[NDArray[np.float64], ...]:
    """Check the boxes found (see `fitting`) and return those of each item."""
    boxes = np.array([each.box for each in found], np.float64).reshape(-1, 4)
    owners = np.array([each.item for each in found], np.int64)
    sizes = np.array([items[each.item].size for each in found], np.int64).reshape(-1, 2)
    clipped, fine = fitting(boxes, sizes, lambda index: found[index].told, report, slack=slack, origin=origin)
    return grouped(clipped[fine], owners[fine], len(items))


def assembled(
    name: str,
    root: Path,
    items: Sequence[Item],
    boxes: tuple[NDArray[np.float64], ...],
    report: Report,
    *,
    edges: Edges,
    class_names: tuple[str, ...] | None = None,
    masks: Masks | None = None,
    files: Iterable[Path] = (),
) -> LocalizationSet:
    """Put a set together; the hash is over names, classes, sizes, boxes, and names and sizes of the files."""
    if not items:
        report(f"{root} holds no labelled image: is this the right folder, or split?")
    rows = "\n".join(f"{item.name}\t{item.label}\t{item.size}" for item in items)
    numbers = np.concatenate([np.zeros((0, 4)), *boxes])
    counts = np.array([len(each) for each in boxes], np.int64)
    there = [path for path in dict.fromkeys([item.image for item in items] + list(files)) if path.is_file()]
    return LocalizationSet(
        name=name,
        images=tuple(item.image for item in items),
        classes=tuple(item.label for item in items),
        boxes=boxes,
        sizes=tuple(item.size for item in items),
        names=tuple(item.name for item in items),
        hash=files_hash([rows.encode(), counts.tobytes(), numbers.tobytes()], [(path.name, path) for path in there]),
        class_names=class_names,
        root=root,
        masks=masks,
        edges=edges,
    )
